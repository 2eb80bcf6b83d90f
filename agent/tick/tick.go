// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package tick is for whoever looks at something again and again. The runtime's own
// timers wake the processor up to three times for one moment: its poller waits in
// whole milliseconds, rounded down, and its monitor wakes up with each of them, and with each call of the kernel that may wait.
package tick

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ticker ticks by a timer of the kernel that is a file (timerfd_create(2), kernel
// 2.6.25). It is for one goroutine.
type Ticker struct {
	file     *os.File
	raw      syscall.RawConn // of file
	interval time.Duration
	stop     func() bool
}

// New makes a ticker that ends with ctx.
func New(ctx context.Context) (*Ticker, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a timer: %w", err)
	}
	t := &Ticker{file: os.NewFile(uintptr(fd), "timer")}
	if t.raw, err = t.file.SyscallConn(); err != nil {
		t.file.Close()
		return nil, fmt.Errorf("making a timer: %w", err)
	}
	t.stop = context.AfterFunc(ctx, func() { t.file.Close() })
	return t, nil
}

// Wait waits for the next tick, which come in intervals of one length until another
// one is asked for. Those that nobody has waited for are one. A ticker that has ended
// gives an error.
func (t *Ticker) Wait(interval time.Duration) error {
	if interval != t.interval {
		if err := t.set(interval); err != nil {
			return fmt.Errorf("setting the timer: %w", err)
		}
		t.interval = interval
	}
	var failed error
	err := t.raw.Read(func(fd uintptr) (done bool) {
		var expirations uint64
		// A call that cannot wait is none that the runtime has to know of.
		_, _, e := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&expirations)), unsafe.Sizeof(expirations))
		if e != 0 && e != unix.EAGAIN {
			failed = fmt.Errorf("reading the timer: %w", e)
		}
		return e != unix.EAGAIN
	})
	return errors.Join(err, failed)
}

// Close ends the ticker.
func (t *Ticker) Close() {
	t.stop()
	t.file.Close()
}

func (t *Ticker) set(interval time.Duration) error {
	every := unix.NsecToTimespec(interval.Nanoseconds())
	var failed error
	err := t.raw.Control(func(fd uintptr) {
		failed = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Interval: every, Value: every}, nil)
	})
	return errors.Join(err, failed)
}
