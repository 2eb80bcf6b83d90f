// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

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

// Ticker ticks, and can be woken by others than the one that waits, which see to it that
// Set and Wake are not called at a time.
type Ticker struct {
	timer    Timer
	file     *os.File        // the same, for the runtime's poller
	raw      syscall.RawConn // the same
	interval time.Duration   // 0: it does not tick
	stop     func() bool
}

// NewTicker makes a ticker that does not tick yet, and ends with ctx.
func NewTicker(ctx context.Context) (*Ticker, error) {
	timer, err := NewTimer()
	if err != nil {
		return nil, err
	}
	t := &Ticker{timer: timer, file: os.NewFile(uintptr(timer.FD), "timer")}
	if t.raw, err = t.file.SyscallConn(); err != nil {
		t.file.Close()
		return nil, fmt.Errorf("making a timer: %w", err)
	}
	t.stop = context.AfterFunc(ctx, func() { t.file.Close() })
	return t, nil
}

// Set has the ticker tick at an interval from now on; 0: not at all, unless it is woken
// after. The interval that it has already changes nothing.
func (t *Ticker) Set(interval time.Duration) {
	if interval != t.interval || interval == 0 {
		t.interval = interval
		_ = t.raw.Control(func(uintptr) { t.timer.Set(interval, interval) }) // unless it is closed
	}
}

// Wake has it tick once now, and then not before it is Set again.
func (t *Ticker) Wake() {
	t.interval = 0
	_ = t.raw.Control(func(uintptr) { t.timer.Set(1, 0) })
}

// Wait waits for the next tick. Those that nobody has waited for are one. A ticker that has
// ended gives an error.
func (t *Ticker) Wait() error {
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
