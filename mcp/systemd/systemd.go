// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package systemd speaks to the service manager: sd_notify(3), sd_listen_fds(3)
// and the file descriptor store, in which listeners outlive a restart. Without
// a manager it does nothing.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// firstFile is the first descriptor that is handed over (SD_LISTEN_FDS_START).
const firstFile = 3

// Manages says whether there is a manager to be told things.
func Manages() bool { return os.Getenv(socketVariable) != "" }

const socketVariable = "NOTIFY_SOCKET"

// Notify tells the manager something, as READY=1 or STATUS=text.
func Notify(state ...string) error { return send(nil, state) }

// Store has the manager keep a copy of a file, and hand it to the successor.
func Store(name string, fd uintptr) error {
	return send(syscall.UnixRights(int(fd)), []string{"FDSTORE=1", "FDNAME=" + name})
}

func send(rights []byte, state []string) error {
	name := os.Getenv(socketVariable)
	if name == "" {
		return nil
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		defer syscall.Close(fd)
		err = syscall.Sendmsg(fd, []byte(strings.Join(state, "\n")), rights, &syscall.SockaddrUnix{Name: name}, 0)
	}
	if err != nil {
		return fmt.Errorf("notifying the service manager: %w", err)
	}
	return nil
}

// anybody is the process number of HandedOver.
const anybody = "0"

// HandedOver is the environment of a successor whose files after the standard
// ones are n that are handed over. What number it will have is not known yet.
func HandedOver(n int) []string {
	return []string{"LISTEN_PID=" + anybody, "LISTEN_FDS=" + strconv.Itoa(n)}
}

// Files are those that the manager, or a predecessor, has handed over. They are
// handed over once.
func Files() (files []*os.File, err error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	os.Unsetenv("LISTEN_PID")
	os.Unsetenv("LISTEN_FDS")
	if count == "" || pid != strconv.Itoa(os.Getpid()) && pid != anybody {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return nil, errors.New("taking over files: LISTEN_FDS is no number")
	}
	for fd := firstFile; fd < firstFile+n; fd++ {
		syscall.CloseOnExec(fd)
		files = append(files, os.NewFile(uintptr(fd), "inherited"))
	}
	return files, nil
}

// Watchdog tells the manager, at half of the interval that it has set, that all
// is well, as long as alive says so, until ctx ends; and each time what status
// says.
func Watchdog(ctx context.Context, alive func() bool, status func() string) {
	interval := 10 * time.Second
	us, err := strconv.Atoi(os.Getenv("WATCHDOG_USEC"))
	watched := err == nil && us > 0
	if watched {
		interval = min(interval, time.Duration(us)*time.Microsecond/2)
	}
	for {
		if watched && alive() {
			Notify("WATCHDOG=1")
		}
		Notify("STATUS=" + status())
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}
