// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
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
	files := []uintptr{os.Stdin.Fd(), os.Stdout.Fd(), os.Stderr.Fd()}
	for _, l := range d.server.Listeners() {
		fd, err := descriptor(l)
		if err != nil {
			return err
		}
		files = append(files, fd)
	}
	env := append(os.Environ(), systemd.HandedOver(len(files)-3)...)
	env = append(env, readyFD+"="+strconv.Itoa(len(files)))
	// By way of a shell that ends at once: the successor is to be the service
	// manager's child, not ours.
	args := append([]string{"sh", "-c", `"$0" "$@" &`, program}, os.Args[1:]...)
	shell, err := syscall.ForkExec("/bin/sh", args, &syscall.ProcAttr{Env: env, Files: append(files, readyW.Fd())})
	if err != nil {
		return fmt.Errorf("starting a successor: %w", err)
	}
	readyW.Close()
	_, err = syscall.Wait4(shell, nil, 0, nil)
	readyR.SetReadDeadline(time.Now().Add(handOverTimeout))
	b := make([]byte, 32)
	n, readErr := readyR.Read(b)
	if err = errors.Join(err, readErr); err != nil {
		return fmt.Errorf("waiting for the successor: %w", err)
	}
	d.notify("MAINPID=" + string(b[:n]))
	d.log.Info("handed over", "successor", string(b[:n]))
	return nil
}

// descriptor is a listener's file. The file of its File method would have it
// block: accepting could not be ended then.
func descriptor(l *net.TCPListener) (fd uintptr, err error) {
	rc, err := l.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = rc.Control(func(f uintptr) { fd = f })
	return fd, err
}

// ready tells a predecessor, if there is one, that this one serves, and its
// number. A predecessor that has given up goes on itself.
func ready() error {
	fd, err := strconv.Atoi(os.Getenv(readyFD))
	os.Unsetenv(readyFD)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), "ready")
	defer f.Close()
	if _, err := f.WriteString(strconv.Itoa(os.Getpid())); err != nil {
		return fmt.Errorf("taking over: %w", err)
	}
	return nil
}
