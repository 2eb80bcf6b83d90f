// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Control answers on a Unix socket what the other commands ask of the converter
// that runs: a line with a word, answered by JSON until the end.
type Control struct {
	Status func() Status
	Reload func() error
}

// The words.
const (
	askStatus = "status"
	askReload = "reload"
)

// controlTimeout bounds one question.
const controlTimeout = 10 * time.Second

// reloaded is the answer to askReload.
type reloaded struct {
	Error string `json:"error,omitempty"`
}

// Listen opens the socket; answering goes on until ctx ends, and its end is what
// running waits for. A socket that a predecessor has left, or still has, is
// taken over.
func (c Control) Listen(ctx context.Context, socket string, running *sync.WaitGroup) error {
	next := fmt.Sprintf("%s.%d", socket, os.Getpid())
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: next})
	if err != nil {
		return fmt.Errorf("listening for commands: %w", err)
	}
	l.SetUnlinkOnClose(false)
	err = errors.Join(os.Chmod(next, 0o660), os.Rename(next, socket))
	if err != nil {
		l.Close()
		return fmt.Errorf("listening for commands: %w", err)
	}
	running.Go(func() { c.run(ctx, l, socket) })
	return nil
}

func (c Control) run(ctx context.Context, l *net.UnixListener, socket string) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	here, _ := os.Stat(socket)
	defer func() {
		if now, err := os.Stat(socket); err == nil && os.SameFile(here, now) {
			os.Remove(socket)
		}
	}()
	for {
		conn, err := l.Accept()
		switch {
		case isClosed(err):
			return
		case err != nil:
			time.Sleep(controlTimeout / 100)
			continue
		}
		go c.answer(conn)
	}
}

func (c Control) answer(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(controlTimeout))
	word, err := bufio.NewReader(io.LimitReader(conn, 64)).ReadString('\n')
	if err != nil {
		return
	}
	e := json.NewEncoder(conn)
	switch word {
	case askStatus + "\n":
		e.Encode(c.Status())
	case askReload + "\n":
		var r reloaded
		if err := c.Reload(); err != nil {
			r.Error = err.Error()
		}
		e.Encode(r)
	}
}

// AskStatus asks the converter at a socket for its status.
func AskStatus(socket string) (st Status, err error) { return st, inquire(socket, askStatus, &st) }

// AskReload has the converter at a socket read its configuration.
func AskReload(socket string) error {
	var r reloaded
	if err := inquire(socket, askReload, &r); err != nil {
		return err
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	return nil
}

// inquire wraps os.ErrNotExist or ECONNREFUSED when no converter runs.
func inquire(socket, word string, answer any) error {
	conn, err := net.DialTimeout("unix", socket, controlTimeout)
	if err != nil {
		return fmt.Errorf("asking the converter that runs: %w", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(controlTimeout))
	if _, err = fmt.Fprintln(conn, word); err == nil {
		err = json.NewDecoder(conn).Decode(answer)
	}
	if err != nil {
		return fmt.Errorf("asking the converter that runs: %w", err)
	}
	return nil
}
