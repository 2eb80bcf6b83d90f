// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package program_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/onpath/program"
	"braid/onpath/raw"
	"braid/onpath/segment"
	"braid/onpath/siit"
	"braid/onpath/tun"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

const mtu = 1500

var (
	prefix = netip.MustParsePrefix("2001:db8:64::/96")
	inner4 = netip.MustParseAddr("192.0.0.2")
	server = netip.MustParseAddrPort("198.18.0.80:443")
	all    = program.Addresses{Prefix: prefix, IPv4: inner4, IPv6: program.Neutral(prefix, inner4)}
)

func sh(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// edge is a device into which the prefix and inner4 are routed.
func edge(t *testing.T, name string) *tun.Device {
	t.Helper()
	d, err := tun.Open(name, mtu)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Up(netip.MustParseAddr("192.0.0.1")); err != nil {
		t.Fatal(err)
	}
	sh(t, fmt.Sprintf("ip -6 route replace %v dev %s; ip route replace %v dev %s", prefix, name, inner4, name))
	return d
}

func embedded(a netip.AddrPort) netip.AddrPort {
	b, from := prefix.Addr().As16(), a.Addr().As4()
	copy(b[12:], from[:])
	return netip.AddrPortFrom(netip.AddrFrom16(b), a.Port())
}

// received is what a device receives, from the IP header on.
func received(t *testing.T, name string) (next func() []byte) {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	every := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(every))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: every, Ifindex: i.Index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	return func() []byte {
		for {
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				t.Fatalf("nothing is received by %s: %v", name, err)
			}
			if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING {
				return bytes.Clone(b[:n])
			}
		}
	}
}

// The program makes of each packet what the translator makes of it, checksums
// included, in either direction.
func TestSame(t *testing.T) {
	d := edge(t, "same")
	out, err := raw.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	tr, err := siit.NewTranslator(prefix, all.IPv4, all.IPv6)
	if err != nil {
		t.Fatal(err)
	}
	tr.Outward = true
	r := rand.New(rand.NewPCG(1, 2))
	var packets [][]byte
	for i := range 400 {
		options := make([]byte, 4*r.IntN(11))
		for i := range options {
			options[i] = 1
		}
		s := segment.Segment{Src: netip.AddrPortFrom(all.IPv6, uint16(1024+i)), Dst: embedded(server), Seq: r.Uint32(), Ack: r.Uint32(),
			Flags: byte(r.IntN(64)), Window: uint16(r.Uint32()), Options: options}
		if i%2 == 1 {
			s.Src, s.Dst = server, netip.AddrPortFrom(inner4, uint16(1024+i))
		}
		p := s.Build()
		if i%2 == 0 {
			p[0], p[1], p[7] = p[0]|byte(r.IntN(16)), byte(r.Uint32()), byte(2+r.IntN(250)) // traffic class, flow label, hop limit
		} else {
			p[1], p[8] = byte(r.Uint32()), byte(2+r.IntN(250))
		}
		packets = append(packets, p)
	}
	var want [][]byte
	b, to := make([]byte, 1<<16), make([]byte, 1<<17)
	read := func(p []byte) []byte {
		t.Helper()
		if err := out.Send(p, destination(p)); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := d.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if n == len(p) && bytes.Equal(b[n-20:n], p[len(p)-20:]) {
				return b[:n]
			}
		}
	}
	for _, p := range packets {
		original, n := read(p), 0
		if original[0]>>4 == 6 {
			n, err = tr.Translate6to4(to, original)
		} else {
			n, err = tr.Translate4to6(to, original)
		}
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, bytes.Clone(to[:n]))
	}

	p, err := program.Attach(d.Name(), mtu, all)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	next := received(t, d.Name())
	for i, packet := range packets {
		if err := out.Send(packet, destination(packet)); err != nil {
			t.Fatal(err)
		}
		if got := next(); !bytes.Equal(got, want[i]) {
			t.Fatalf("%x\n%x has become\n%x, and is to be", packet, got, want[i])
		}
	}
	if n := p.Packets(); n != uint64(len(packets)) {
		t.Errorf("%d packets of %d", n, len(packets))
	}

	// What is not for it is read as ever.
	other := netip.MustParseAddrPort("[2001:db8:99::1]:443")
	foreign := segment.Segment{Src: other, Dst: embedded(server), Flags: segment.SYN}
	udp := bytes.Clone(packets[0])
	udp[6] = unix.IPPROTO_UDP
	long := segment.Segment{Src: server, Dst: netip.AddrPortFrom(inner4, 9), Flags: segment.ACK}
	fits := append(long.Build(), make([]byte, mtu-20-40)...)
	tooLong := append(long.Build(), make([]byte, mtu-40)...)
	piece := bytes.Clone(packets[1])
	piece[6] = 0x20
	options := segment.Segment{Src: server, Dst: netip.AddrPortFrom(inner4, 9), Flags: segment.ACK}
	withOptions := options.Build()
	withOptions = append(append(withOptions[:20:20], 1, 1, 1, 0), withOptions[20:]...)
	withOptions[0] = 0x46
	for name, packet := range map[string][]byte{"another source": foreign.Build(), "UDP": udp, "a fragment": piece, "IPv4 options": withOptions, "no room": tooLong} {
		before := p.Packets()
		read(packet)
		if n := p.Packets() - before; n != 0 {
			t.Errorf("%s: it was translated", name)
		}
	}
	before := p.Packets()
	if err := out.Send(fits, inner4); err != nil {
		t.Fatal(err)
	}
	if n := p.Packets() - before; n != 1 {
		t.Error("the longest that fits was not translated")
	}
}

func destination(p []byte) netip.Addr {
	if p[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(p[24:40]))
	}
	return netip.AddrFrom4([4]byte(p[16:20]))
}

// A connection goes through, in large pieces, and nobody reads the device.
func TestConnection(t *testing.T) {
	l := netns.ListenFar(t, false)
	d := edge(t, "carry")
	p, err := program.Attach(d.Name(), mtu, all)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	sh(t, `sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
		ip addr replace `+all.IPv6.String()+`/128 dev lo nodad
		nft 'table ip nat { chain post { type nat hook postrouting priority srcnat; iifname "carry" masquerade; }; }'`)
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(all.IPv6, 0)), Timeout: 5 * time.Second}
	dialer.SetMultipathTCP(false)
	to := embedded(netip.MustParseAddrPort(l.Addr().String()))
	c, err := dialer.DialContext(context.Background(), "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	const bytesEach = 64 << 20
	go func() {
		c.Write(make([]byte, bytesEach))
		c.(*net.TCPConn).CloseWrite()
	}()
	start := time.Now()
	n, err := io.Copy(io.Discard, c)
	if n != bytesEach || err != nil {
		t.Fatalf("%d bytes came back: %v", n, err)
	}
	packets := p.Packets()
	t.Logf("%.1f Gbit/s there and back, %d packets", float64(2*8*n)/time.Since(start).Seconds()/1e9, packets)
	if packets == 0 || packets > 2*bytesEach/4096 {
		t.Errorf("%d packets for %d bytes in each direction", packets, bytesEach)
	}
}

// An address of which a checksum would change is refused, and so is a device
// that is not there.
func TestAttachErrors(t *testing.T) {
	d := edge(t, "none")
	other := all
	other.IPv6 = embedded(server).Addr()
	if p, err := program.Attach(d.Name(), mtu, other); err == nil {
		p.Close()
		t.Error("an address that is not neutral")
	}
	if p, err := program.Attach("nowhere", mtu, all); err == nil {
		p.Close()
		t.Error("a device that is not there")
	}
}
