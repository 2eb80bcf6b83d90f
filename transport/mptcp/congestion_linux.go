// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// Congestion names the congestion control of what a process sends.
type Congestion struct {
	// Lines is for what is sent over lines, which may lose packets for other
	// reasons than congestion: on a line with 1 % of loss Reno and CUBIC have a
	// bond carry less than its better line.
	Lines string
	// Near is for what is sent towards a LAN or servers. On a path of a tenth of a
	// millisecond the pacing of BBR takes half of the throughput, and doubles the
	// time of the processor.
	Near string
	// Missing is why Lines is not BBR; nil: it is.
	Missing error

	usual string // what sockets have without being told
}

// CongestionControl is that of this process and network namespace, found out at
// the first call. With CAP_NET_ADMIN the kernel loads BBR for it where it is a
// module.
var CongestionControl = sync.OnceValue(func() Congestion {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return Congestion{Missing: fmt.Errorf("opening socket: %w", err)}
	}
	defer unix.Close(fd)
	c, err := congestionOf(fd)
	if err != nil {
		return Congestion{Missing: err}
	}
	const bbr = "bbr"
	c.Missing = setCongestion(fd, bbr)
	if c.Missing == nil {
		c.Lines = bbr
	}
	if strings.HasPrefix(c.Near, bbr) {
		for _, name := range []string{"cubic", "reno"} { // the latter is in every kernel
			if setCongestion(fd, name) == nil {
				c.Near = name
				break
			}
		}
	}
	return c
})

// congestionOf is what a socket has by default.
func congestionOf(fd int) (Congestion, error) {
	name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		return Congestion{}, fmt.Errorf("reading TCP_CONGESTION: %w", err)
	}
	return Congestion{Lines: name, Near: name, usual: name}, nil
}

// setCongestion may be of no use for a socket that is closed already, or that
// the kernel has no option for (MPTCP before 5.15): it has the default then.
func setCongestion(fd int, name string) error {
	if name == "" {
		return errors.New("congestion control is not known")
	}
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name); err != nil {
		return fmt.Errorf("setting TCP_CONGESTION to %s: %w", name, err)
	}
	return nil
}

// near and lines give a new socket its congestion control.
func near(fd int)  { change(fd, CongestionControl().Near) }
func lines(fd int) { change(fd, CongestionControl().Lines) }

func change(fd int, name string) {
	if name != CongestionControl().usual {
		_ = call.SetString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name) // which is loaded
	}
}

// AcceptNear and AcceptLines give the connections that a listener will accept
// the congestion control of those towards a LAN, or over lines. Listen has it be
// the latter.
func (l *Listener) AcceptNear() error  { return l.set(near) }
func (l *Listener) AcceptLines() error { return l.set(lines) }

// set sets options of the listener.
func (l *Listener) set(options func(fd int)) error {
	return l.rc.Control(func(fd uintptr) { options(int(fd)) })
}
