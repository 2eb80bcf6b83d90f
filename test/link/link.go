// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package link emulates a point-to-point line between two network namespaces.
//
//	namespace a            this process                      namespace b
//	[ TUN ] --read--> queue -> transmitter -> propagation --write--> [ TUN ]
//	[ TUN ] <--write-- propagation <- transmitter <- queue <--read-- [ TUN ]
//
// Each direction has a drop-tail queue, a transmitter that sends at a rate or at the
// opportunities of a recorded trace, and a propagation delay on whose way packets may be lost.
// Everything can be changed while packets flow. Sizes are those of IP packets: a full one of
// plain TCP over IPv4 with timestamps has 1448 bytes of payload in 1500.
package link

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// MTU is that of both devices, in bytes.
const MTU = 1500

// queueLen is the length of a device's own queue in packets: enough for what arrives between
// two rounds of a mover, so that packets are dropped only where Spec says.
const queueLen = 10_000

// An End is the TUN device at one end of a link.
type End struct {
	fd   int
	name string
}

// Open creates the TUN device of that name in the network namespace of the calling thread. The
// device is left down, without addresses, and vanishes when its Link is closed.
func Open(name string) (*End, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	if err := create(fd, name); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("creating TUN device %s: %w", name, err)
	}
	return &End{fd: fd, name: name}, nil
}

func create(fd int, name string) error {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r.SetUint32(queueLen)
	return unix.IoctlIfreq(s, unix.SIOCSIFTXQLEN, r)
}

// File hands the device over to a file, each of whose reads and writes is of a packet. It is used
// instead of the End, and closing it removes the device.
func (e *End) File() *os.File { return os.NewFile(uintptr(e.fd), e.name) }

// Close removes the device. An End that has been given to New is closed by its Link.
func (e *End) Close() error { return unix.Close(e.fd) }

// A Link carries packets between its two ends until it is closed.
type Link struct {
	ab, ba *Direction
	ends   [2]*End
	once   sync.Once
	err    error
}

// New starts a link between a and b, which from then on belong to it.
func New(a, b *End, ab, ba Spec) (*Link, error) {
	l := &Link{ends: [2]*End{a, b}}
	var err error
	if l.ab, err = newDirection(a.name, ab); err != nil {
		return nil, err
	}
	if l.ba, err = newDirection(b.name, ba); err != nil {
		unix.Close(l.ab.wakeFD)
		return nil, err
	}
	go l.ab.run(a.fd, b.fd)
	go l.ba.run(b.fd, a.fd)
	return l, nil
}

// AB is the direction from the first end to the second.
func (l *Link) AB() *Direction { return l.ab }

// BA is the direction from the second end to the first.
func (l *Link) BA() *Direction { return l.ba }

// Blackhole makes packets of both directions vanish, or no longer. The devices stay up.
func (l *Link) Blackhole(on bool) {
	l.ab.Blackhole(on)
	l.ba.Blackhole(on)
}

// Close stops both directions and removes both devices. It reports what ended a direction
// before, such as the loss of its device.
func (l *Link) Close() error {
	l.once.Do(func() {
		l.err = errors.Join(l.ab.stop(), l.ba.stop(), l.ends[0].Close(), l.ends[1].Close())
	})
	return l.err
}
