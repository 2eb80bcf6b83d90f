// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/agent/clat"
	"braid/onpath/siit"
	"braid/test/lab"
	"braid/test/link"
)

// carrier is an IPv6-only access network that tells what a test says.
type carrier struct {
	world *lab.World
	wan   *lab.WAN
	ra    net.PacketConn
}

func newCarrier(t *testing.T) *carrier {
	t.Helper()
	a := lab.LTE(link.Spec{}, link.Spec{})
	a.V4 = lab.None
	w := newWorld(t, a)
	c := &carrier{world: w, wan: w.WAN("lte")}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var failed error
		err := rc.Control(func(fd uintptr) {
			failed = errors.Join(
				unix.BindToDevice(int(fd), "gw"),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255))
		})
		return errors.Join(err, failed)
	}}
	var err error
	if c.ra, err = c.wan.Router.ListenPacket(t.Context(), lc, "ip6:ipv6-icmp", "::"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.ra.Close() })
	return c
}

// advertise sends a router advertisement with that option.
func (c *carrier) advertise(t *testing.T, option string) {
	t.Helper()
	b := append(unhex(t, "86000000 40000708 00000000 00000000"), unhex(t, option)...)
	if _, err := c.ra.WriteTo(b, &net.IPAddr{IP: net.ParseIP("ff02::1")}); err != nil {
		t.Fatal(err)
	}
}

// serveDNS answers questions at one of the router's addresses with flags, count and
// records, after not answering some.
func (c *carrier) serveDNS(t *testing.T, at netip.Addr, ignored int, flags, count, records string) {
	t.Helper()
	pc, err := c.wan.Router.ListenPacket(t.Context(), net.ListenConfig{}, "udp", netip.AddrPortFrom(at, 53).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	f, n, r := unhex(t, flags), unhex(t, count), unhex(t, records)
	go func() {
		var buf [512]byte
		for {
			_, from, err := pc.ReadFrom(buf[:])
			if err != nil {
				return
			}
			if ignored--; ignored >= 0 {
				continue
			}
			b := append(buf[:2:2], f...)
			b = append(append(append(b, 0, 1), n...), 0, 0, 0, 0)
			b = append(append(b, buf[12:31]...), r...)
			pc.WriteTo(b, from)
		}
	}()
}

func (c *carrier) discover(t *testing.T, patience time.Duration, servers ...netip.Addr) (n clat.NAT64, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = c.world.Gateway.Do(func() error {
		n, err = clat.Discover(ctx, clat.Access{Device: "lte", Servers: append(servers, c.wan.Router6)})
		return err
	})
	return n, err
}

const (
	// An answer with 64:ff9b::192.0.0.170 for 10 minutes.
	answered = "c00c 001c 0001 00000258 0010 0064ff9b 00000000 00000000 c00000aa"
	// PREF64 with 2001:db8:64::/96 for 10 minutes, and taken back.
	told      = "2602 0258 20010db8 00640000 00000000"
	takenBack = "2602 0000 20010db8 00640000 00000000"
)

func TestDiscoverByDNS(t *testing.T) {
	c := newCarrier(t)
	c.serveDNS(t, c.wan.Router6, 1, "8180", "0001", answered) // the first question gets lost
	n, err := c.discover(t, 5*time.Second)
	if err != nil || n.Prefix.String() != "64:ff9b::/96" || n.Lifetime != 10*time.Minute || n.Origin != clat.OriginDNS {
		t.Errorf("%+v, %v", n, err)
	}
}

// The first server, which somebody has configured, knows nothing of the network's NAT64.
func TestDiscoverBesideOther(t *testing.T) {
	c := newCarrier(t)
	other := c.wan.Router6.Next().Next()
	if _, err := c.wan.Router.Run(fmt.Sprintf("ip address add %v/64 dev gw nodad\n", other)); err != nil {
		t.Fatal(err)
	}
	c.serveDNS(t, other, 0, "8180", "0000", "")
	c.serveDNS(t, c.wan.Router6, 0, "8180", "0001", answered)
	if n, err := c.discover(t, 5*time.Second, other); err != nil || n.Prefix.String() != "64:ff9b::/96" {
		t.Errorf("%+v, %v", n, err)
	}
}

func TestDiscoverNone(t *testing.T) {
	c := newCarrier(t)
	if n, err := c.discover(t, 200*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, clat.ErrNone) {
		t.Errorf("nobody tells: %+v, %v", n, err)
	}
	c.serveDNS(t, c.wan.Router6, 0, "8183", "0000", "")
	if n, err := c.discover(t, time.Second); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, clat.ErrNone) {
		t.Errorf("DNS knows no such name: %+v, %v", n, err)
	}
}

func TestFinder(t *testing.T) {
	c := newCarrier(t)
	c.serveDNS(t, c.wan.Router6, 0, "8180", "0001", answered)
	var f *clat.Finder
	err := c.world.Gateway.Do(func() (err error) {
		f, err = clat.NewFinder(t.Context(), clat.Access{Device: "lte", Servers: []netip.Addr{c.wan.Router6}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	foundC, doneC := make(chan clat.NAT64), make(chan error)
	go func() { doneC <- f.Run(ctx, func(n clat.NAT64) { foundC <- n }) }()
	next := func(want string, origin clat.Origin) {
		t.Helper()
		select {
		case n := <-foundC:
			if n.Prefix.String() != want || n.Origin != origin {
				t.Errorf("found %+v, want %s by %s", n, want, origin)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s is not found", want)
		}
	}
	next("64:ff9b::/96", clat.OriginDNS)
	c.advertise(t, told)
	next("2001:db8:64::/96", clat.OriginRouter)
	c.advertise(t, told)                                   // nothing new
	c.advertise(t, "2602 0000 20010db8 00650000 00000000") // another router's is taken back
	c.advertise(t, "2602 0258 20010db8 00660000 00000000")
	next("2001:db8:66::/96", clat.OriginRouter)
	c.advertise(t, told)
	next("2001:db8:64::/96", clat.OriginRouter)
	c.advertise(t, takenBack)
	next("64:ff9b::/96", clat.OriginDNS)
	c.advertise(t, "2602 0008 20010db8 00640000 00000000") // for 8 s
	next("2001:db8:64::/96", clat.OriginRouter)
	select {
	case n := <-foundC:
		t.Errorf("%+v before the end", n)
	case <-time.After(7 * time.Second):
	}
	next("64:ff9b::/96", clat.OriginDNS)
	cancel()
	if err := <-doneC; err != nil {
		t.Errorf("running: %v", err)
	}
}

func TestDiscoverConfigured(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	n, err := clat.Discover(ctx, clat.Access{Prefix: prefix})
	if want := (clat.NAT64{Prefix: prefix, Origin: clat.OriginConfig}); err != nil || n != want {
		t.Errorf("%+v, %v; want %+v", n, err, want)
	}
	bad := netip.MustParsePrefix("2001:db8::/33")
	if n, err := clat.Discover(ctx, clat.Access{Prefix: bad}); !errors.Is(err, siit.ErrPrefix) {
		t.Errorf("%+v, %v", n, err)
	}
}
