// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package tick is for whoever looks at something again and again. The runtime's own
// timers wake the processor up to five times for one moment: its poller waits in
// whole milliseconds, rounded down, and its monitor wakes up with each of them, and with
// each call of the kernel that may wait.
package tick

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Timer is a timer of the kernel that is a file (timerfd_create(2), kernel 2.6.25),
// ready to be read once its time has come.
type Timer struct{ FD int }

// NewTimer makes a timer that is not set.
func NewTimer() (Timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return Timer{}, fmt.Errorf("making a timer: %w", err)
	}
	return Timer{fd}, nil
}

// Set sets the timer anew, after a time, and then again and again unless every is 0. After
// 0 it is not set any more.
func (t Timer) Set(after, every time.Duration) {
	// It fails for a time below 0 and for what is no timer.
	_ = unix.TimerfdSettime(t.FD, 0, &unix.ItimerSpec{
		Interval: unix.NsecToTimespec(every.Nanoseconds()), Value: unix.NsecToTimespec(after.Nanoseconds()),
	}, nil)
}
