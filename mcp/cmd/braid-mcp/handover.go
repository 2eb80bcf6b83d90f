// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"braid/mcp/systemd"
	"braid/transport/mptcp"
)

const (
	// readyFD is the environment's variable with the descriptor on which a
	// successor says that it is ready.
	readyFD = "BRAID_MCP_READY_FD"
	// handOverTimeout is how long it may take until then.
	handOverTimeout = 10 * time.Second
)

// handOver starts a successor, of the program that is installed now, with these
// listeners, and returns once it is ready. It begins to serve when what is
// returned is closed: of two that accept at a time each would have clients show
// the other's tickets.
func (d *daemon) handOver() (successor io.Closer, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	near, far := os.NewFile(uintptr(pair[0]), "successor"), os.NewFile(uintptr(pair[1]), "predecessor")
	defer func() {
		far.Close()
		if err != nil {
			near.Close()
		}
	}()
	files := []uintptr{os.Stdin.Fd(), os.Stdout.Fd(), os.Stderr.Fd()}
	for _, l := range d.server.Listeners() {
		fd, err := descriptor(l)
		if err != nil {
			return nil, err
		}
		files = append(files, fd)
	}
	env := append(os.Environ(), systemd.HandedOver(len(files)-3)...)
	env = append(env, readyFD+"="+strconv.Itoa(len(files)))
	// By way of a shell that ends at once: the successor is to be the service
	// manager's child, not ours.
	args := append([]string{"sh", "-c", `"$0" "$@" &`, program}, os.Args[1:]...)
	shell, err := syscall.ForkExec("/bin/sh", args, &syscall.ProcAttr{Env: env, Files: append(files, uintptr(pair[1]))})
	if err != nil {
		return nil, fmt.Errorf("starting a successor: %w", err)
	}
	far.Close()
	_, err = syscall.Wait4(shell, nil, 0, nil)
	near.SetReadDeadline(time.Now().Add(handOverTimeout))
	b := make([]byte, 32)
	n, readErr := near.Read(b)
	if err = errors.Join(err, readErr); err != nil {
		return nil, fmt.Errorf("waiting for the successor: %w", err)
	}
	d.notify("MAINPID=" + string(b[:n]))
	d.log.Info("handed over", "successor", string(b[:n]))
	return near, nil
}

// descriptor is a listener's file. The file of its File method would have it
// block: accepting could not be ended then.
func descriptor(l *mptcp.Listener) (fd uintptr, err error) {
	rc, err := l.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = rc.Control(func(f uintptr) { fd = f })
	return fd, err
}

// takeOver tells a predecessor, if there is one, that this one is ready, and its
// number, and waits until the predecessor accepts nothing any more. One that has
// given up goes on itself.
func takeOver() error {
	fd, err := strconv.Atoi(os.Getenv(readyFD))
	os.Unsetenv(readyFD)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), "predecessor")
	defer f.Close()
	if _, err := f.WriteString(strconv.Itoa(os.Getpid())); err != nil {
		return fmt.Errorf("taking over: %w", err)
	}
	f.SetReadDeadline(time.Now().Add(handOverTimeout))
	f.Read(make([]byte, 1)) // the end, or that it takes too long
	return nil
}
