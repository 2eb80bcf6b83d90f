// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package tun_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"braid/onpath/tun"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

func ip(t *testing.T, args string) {
	t.Helper()
	if b, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, b)
	}
}

func open(t *testing.T, name string, mtu int) *tun.Device {
	t.Helper()
	d, err := tun.Open(name, mtu)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// A datagram leaves through the device and comes back turned round.
func TestPackets(t *testing.T) {
	d := open(t, "t%d", 1400)
	i, err := net.InterfaceByName(d.Name())
	if err != nil || i.Name != "t0" || i.MTU != 1400 || i.Flags&net.FlagUp != 0 {
		t.Fatalf("%+v, %v; want t0 with MTU 1400, down", i, err)
	}
	if _, err := d.Write(append([]byte{0x45}, make([]byte, 19)...)); !errors.Is(err, syscall.EIO) {
		t.Errorf("writing to a device that is down: %v", err)
	}
	ip(t, "link set t0 up")
	ip(t, "addr add 10.9.0.1/24 dev t0")
	c, err := net.Dial("udp", "10.9.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("braid")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	n := 0
	for n == 0 || b[0]>>4 == 6 { // the kernel looks for neighbours
		if n, err = d.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	b = b[:n]
	if n != 33 || b[0] != 0x45 || !bytes.HasSuffix(b, []byte("braid")) {
		t.Fatalf("packet %x", b)
	}
	// Both checksums stay what they are.
	b = bytes.Join([][]byte{b[:12], b[16:20], b[12:16], b[22:24], b[20:22], b[24:]}, nil)
	if _, err := d.Write(b); err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Second))
	got := make([]byte, 10)
	if n, err := c.Read(got); err != nil || string(got[:n]) != "braid" {
		t.Errorf("%q, %v", got[:n], err)
	}
}

func TestClose(t *testing.T) {
	d := open(t, "t1", 1500)
	errC := make(chan error)
	go func() {
		_, err := d.Read(make([]byte, 2000))
		errC <- err
	}()
	select {
	case err := <-errC:
		t.Fatalf("reading from a device that is down: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-errC; !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading from a closed device: %v", err)
	}
	if i, err := net.InterfaceByName("t1"); err == nil {
		t.Errorf("%+v is still there", i)
	}
}

func TestOpenErrors(t *testing.T) {
	open(t, "t2", 1500)
	ip(t, "tuntap add dev t3 mode tun")
	tests := []struct {
		name, device string
		mtu          int
		want         error
	}{
		{"name in use", "t2", 1500, syscall.EBUSY},
		{"persistent device of somebody", "t3", 1500, syscall.EBUSY},
		{"name too long", "sixteen-letters!", 1500, syscall.EINVAL},
		{"MTU too small", "t4", 67, syscall.EINVAL},
		{"MTU too large", "t4", 65536, syscall.EINVAL},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := tun.Open(tt.device, tt.mtu)
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if err == nil {
				d.Close()
			}
		})
	}
	if i, err := net.InterfaceByName("t4"); err == nil {
		t.Errorf("%+v is left behind", i)
	}
}
