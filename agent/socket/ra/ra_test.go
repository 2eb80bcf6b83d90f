// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ra_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"syscall"
	"testing"

	"braid/agent/socket/ra"
	"braid/onpath/tun"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// link is a device whose other end is the test.
func link(t *testing.T, name string) *tun.Device {
	t.Helper()
	d, err := tun.Open(name, 1500)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Up(netip.MustParseAddr("192.0.0.1")); err != nil {
		t.Fatal(err)
	}
	return d
}

func listen(t *testing.T, device string) *ra.Conn {
	t.Helper()
	c, err := ra.Open(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// message is an ICMPv6 packet to all nodes.
func message(from string, hops, typ, code byte, rest ...byte) []byte {
	b := append([]byte{0x60, 0, 0, 0, 0, byte(4 + len(rest)), 58, hops}, netip.MustParseAddr(from).AsSlice()...)
	b = append(b, netip.MustParseAddr("ff02::1").AsSlice()...)
	b = append(b, typ, code, 0, 0)
	b = append(b, rest...)
	s := 58 + 4 + len(rest)
	for i := 8; i+1 < len(b); i += 2 {
		s += int(binary.BigEndian.Uint16(b[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	binary.BigEndian.PutUint16(b[42:], ^uint16(s))
	return b
}

func TestReceive(t *testing.T) {
	d := link(t, "ra0")
	other := link(t, "ra1")
	c := listen(t, "ra0")
	header := make([]byte, 12)
	const router = "fe80::1"
	wrong := map[string][]byte{
		"no advertisement": message(router, 255, 136, 0, append(header, 'n', 0)...),
		"forwarded":        message(router, 254, 134, 0, append(header, 'f', 0)...),
		"global source":    message("2001:db8::1", 255, 134, 0, append(header, 'g', 0)...),
		"other code":       message(router, 255, 134, 1, append(header, 'c', 0)...),
		"cut":              message(router, 255, 134, 0, header[:8]...),
	}
	for name, b := range wrong {
		if _, err := d.Write(b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if _, err := other.Write(message(router, 255, 134, 0, append(header, 'o', 0)...)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(message(router, 255, 134, 0, append(header, 'r', 1, 2, 3)...)); err != nil {
		t.Fatal(err)
	}
	options, from, err := c.Receive()
	if err != nil || hex.EncodeToString(options) != "72010203" || from.String() != "fe80::1%ra0" {
		t.Errorf("options %x from %v, %v", options, from, err)
	}
}

func TestSolicit(t *testing.T) {
	d := link(t, "ra2")
	c := listen(t, "ra2")
	if err := c.Solicit(); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("soliciting without an address: %v", err)
	}
	if b, err := exec.Command("ip", "addr", "add", "2001:db8::1/64", "dev", "ra2", "nodad").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if err := c.Solicit(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	for {
		n, err := d.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if b[6] != 58 { // reports of multicast listeners have an option first
			continue
		}
		to, _ := netip.AddrFromSlice(b[24:40])
		if n != 48 || b[7] != 255 || to.String() != "ff02::2" || b[40] != 133 || b[41] != 0 {
			t.Errorf("solicitation %x", b[:n])
		}
		return
	}
}

func TestClose(t *testing.T) {
	link(t, "ra3")
	c := listen(t, "ra3")
	errC := make(chan error)
	go func() {
		_, _, err := c.Receive()
		errC <- err
	}()
	c.Close()
	if err := <-errC; !errors.Is(err, net.ErrClosed) {
		t.Errorf("receiving after Close: %v", err)
	}
	if c, err := ra.Open(t.Context(), "nothing"); err == nil {
		c.Close()
		t.Error("listening on a device that is not there")
	}
}
