// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package tun makes network devices whose packets this process reads and
// writes.
package tun

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const clone = "/dev/net/tun"

// Device is a TUN device: what the kernel routes into it is read, and what is
// written comes out of it as if received. It lives as long as it is open.
type Device struct {
	file *os.File
	name string
}

// Open creates a device in the network namespace of the calling thread. It is
// down and has no addresses. The name has at most 15 bytes, %d stands for the
// next free number; mtu is in bytes, 68 to 65,535. It needs CAP_NET_ADMIN. The
// error wraps os.ErrNotExist on a kernel without TUN, and EBUSY when there is a
// device of that name.
func Open(name string, mtu int) (*Device, error) {
	fd, err := unix.Open(clone, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", clone, err)
	}
	name, err = create(fd, name, mtu)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("creating TUN device: %w", err)
	}
	// Not before, or the poller would see a file that is not yet a device.
	return &Device{os.NewFile(uintptr(fd), clone), name}, nil
}

func create(fd int, name string, mtu int) (string, error) {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return "", fmt.Errorf("name %q: %w", name, err)
	}
	// EXCL: not even a persistent one of that name is taken over.
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		return "", fmt.Errorf("name %q: %w", name, err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(s)
	r.SetUint32(uint32(mtu))
	if err := unix.IoctlIfreq(s, unix.SIOCSIFMTU, r); err != nil {
		return "", fmt.Errorf("MTU %d: %w", mtu, err)
	}
	return r.Name(), nil
}

// Name is the device's name.
func (d *Device) Name() string { return d.name }

// Read waits for a packet, an IPv4 or IPv6 header first, and cuts it if b is
// too small. While the device is down it waits; after Close it returns
// os.ErrClosed.
func (d *Device) Read(b []byte) (int, error) {
	n, err := d.file.Read(b)
	return n, plain(err)
}

// Write hands the kernel a packet. The error is EIO while the device is down.
func (d *Device) Write(packet []byte) (int, error) {
	n, err := d.file.Write(packet)
	return n, plain(err)
}

// Close removes the device and ends Read.
func (d *Device) Close() error { return d.file.Close() }

// plain takes the name of a file off an error that is not about it.
func plain(err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}
