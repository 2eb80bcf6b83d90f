// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"braid/mcp/systemd"
)

const (
	// readyFD is the environment's variable with the descriptor on which a
	// successor says that it serves.
	readyFD = "BRAID_MCP_READY_FD"
	// handOverTimeout is how long it may take until then.
	handOverTimeout = 10 * time.Second
)

// handOver starts a successor, of the program that is installed now, with these
// listeners, and returns once it serves.
func (d *daemon) handOver() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer readyR.Close()
	defer readyW.Close()
	attr := &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}}
	for _, l := range d.server.Listeners() {
		f, err := l.File()
		if err != nil {
			return err
		}
		defer f.Close()
		attr.Files = append(attr.Files, f)
	}
	attr.Env = append(os.Environ(), systemd.HandedOver(len(attr.Files)-3)...)
	attr.Env = append(attr.Env, readyFD+"="+strconv.Itoa(len(attr.Files)))
	attr.Files = append(attr.Files, readyW)
	next, err := os.StartProcess(program, os.Args, attr)
	if err != nil {
		return fmt.Errorf("starting a successor: %w", err)
	}
	readyW.Close()
	readyR.SetReadDeadline(time.Now().Add(handOverTimeout))
	if _, err := readyR.Read(make([]byte, 1)); err != nil {
		err = errors.Join(fmt.Errorf("waiting for the successor: %w", err), next.Kill())
		next.Wait()
		return err
	}
	d.notify("MAINPID=" + strconv.Itoa(next.Pid))
	d.log.Info("handed over", "successor", next.Pid)
	return next.Release()
}

// ready tells a predecessor that this one serves.
func ready() {
	fd, err := strconv.Atoi(os.Getenv(readyFD))
	os.Unsetenv(readyFD)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "ready")
	f.Write([]byte{1})
	f.Close()
}
