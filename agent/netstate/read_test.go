// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

var compare = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// own are the tables that are to be passed over, and a rule.
var own = Own{FirstTable: 7000, LastTable: 7063, Rule: Rule{Pref: 32765, Table: 254, NoDefault: true, Mask: 0xc0ffffff}}

// ip runs ip with the arguments on each line.
func ip(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		if b, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.TrimSpace(line), err, b)
		}
	}
}

// pair makes a veth pair whose near end is to be looked at. Neither makes
// IPv6 addresses of its own.
func pair(t *testing.T, near, far string) {
	t.Helper()
	ip(t, "link add "+near+" type veth peer name "+far)
	ip(t, "link set "+near+" addrgenmode none up")
	ip(t, "link set "+far+" addrgenmode none up")
	t.Cleanup(func() { ip(t, "link del "+near) })
	await(t, "carrier of "+near, func(s Snapshot) bool {
		a, _ := s.Link(near)
		b, _ := s.Link(far)
		return a.Up && b.Up
	})
}

func read(t *testing.T) Snapshot {
	t.Helper()
	s, err := Read(own)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// await reads at every hint until the network is as it should.
func await(t *testing.T, what string, as func(Snapshot) bool) Snapshot {
	t.Helper()
	w, err := Watch(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	timeout := time.After(10 * time.Second)
	for {
		s := read(t)
		if as(s) {
			return s
		}
		select {
		case <-w.Changed():
		case <-timeout:
			t.Fatalf("waiting for %s: %+v", what, s)
		}
	}
}

// link reads one link. Its index, which no test can know, is 0.
func link(t *testing.T, name string) Link {
	t.Helper()
	l, ok := read(t).Link(name)
	if !ok || l.Index == 0 {
		t.Fatalf("link %s: %+v, %v", name, l, ok)
	}
	l.Index = 0
	return l
}

func check(t *testing.T, want, got Link) {
	t.Helper()
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Error(diff)
	}
}

func TestAddresses(t *testing.T) {
	pair(t, "eth1", "far1")
	ip(t, `
		addr add 192.0.2.9/24 dev eth1
		addr add 192.0.2.5/24 dev eth1
		addr add 198.51.100.1 peer 198.51.100.2/32 dev eth1
		addr add 169.254.7.7/16 dev eth1 scope link
		addr add 203.0.113.1/32 dev eth1 preferred_lft 0 valid_lft 1000
		addr add 2001:db8::2/64 dev eth1 nodad
		addr add 2001:db8::3/64 dev eth1 nodad preferred_lft 0
		addr add fe80::7/64 dev eth1 nodad
		link set far1 down
		addr add 2001:db8::4/64 dev eth1`)
	usable := func(p string) Addr { return Addr{Prefix: netip.MustParsePrefix(p), Usable: true} }
	deprecated := func(p string) Addr { return Addr{Prefix: netip.MustParsePrefix(p), Usable: true, Deprecated: true} }
	unfit := func(p string) Addr { return Addr{Prefix: netip.MustParsePrefix(p)} }
	await(t, "the carrier's loss", func(s Snapshot) bool { l, _ := s.Link("eth1"); return !l.Up })
	check(t, Link{Name: "eth1", Type: "veth", MTU: 1500, Addrs: []Addr{
		unfit("169.254.7.7/16"),
		usable("192.0.2.5/24"),
		usable("192.0.2.9/24"),
		usable("198.51.100.1/32"),
		deprecated("203.0.113.1/32"),
		usable("2001:db8::2/64"),
		deprecated("2001:db8::3/64"),
		unfit("2001:db8::4/64"), // tentative: nobody to ask without carrier
		unfit("fe80::7/64"),
	}}, link(t, "eth1"))

	check(t, Link{Name: "lo", Up: true, Loopback: true, Type: "device", MTU: 65536, Addrs: []Addr{unfit("127.0.0.1/8"), unfit("::1/128")}}, link(t, "lo"))
}

func TestDefaults(t *testing.T) {
	pair(t, "eth1", "far1")
	pair(t, "eth2", "far2")
	ip(t, `
		addr add 192.0.2.2/24 dev eth1
		addr add 198.51.100.2/24 dev eth2
		route add default via 192.0.2.7 metric 20
		route add default via 192.0.2.1 metric 10
		route add default dev eth2
		route add default metric 30 nexthop via 198.51.100.1 nexthop via 192.0.2.1 nexthop dev eth2
		-4 route add default via inet6 fe80::9 dev eth2 metric 40
		route add default via 198.51.100.9 table 7001
		route add default via 198.51.100.8 table 26 src 198.51.100.2
		route add 203.0.113.0/24 via 198.51.100.1
		route add 0.0.0.0/1 via 198.51.100.1
		route add unreachable default metric 9999
		-6 route add default via fe80::1 dev eth1 metric 512
		-6 route add default from 2001:db8:1::/56 via fe80::2 dev eth1 metric 512
		-6 route add default from 2001:db8:2::/56 via fe80::2 dev eth1 metric 512
		-6 route add default metric 600 nexthop via fe80::1 dev eth1 nexthop via fe80::1 dev eth2
		-6 route add 2000::/3 via fe80::1 dev eth1
		-6 route add unreachable default metric 9999`)
	defer ip(t, `
		route del unreachable default metric 9999
		-6 route del unreachable default metric 9999`)
	gw := netip.MustParseAddr
	check(t, Link{Name: "eth1", Up: true, Type: "veth", MTU: 1500,
		Addrs: []Addr{{Prefix: netip.MustParsePrefix("192.0.2.2/24"), Usable: true}},
		Defaults: []Default{
			{Gateway: gw("192.0.2.1"), Table: 254, Metric: 10},
			{Gateway: gw("192.0.2.7"), Table: 254, Metric: 20},
			{Gateway: gw("192.0.2.1"), Table: 254, Metric: 30},
			{Gateway: gw("fe80::1"), IPv6: true, Table: 254, Metric: 512},
			{Gateway: gw("fe80::2"), IPv6: true, Table: 254, Metric: 512},
			{Gateway: gw("fe80::1"), IPv6: true, Table: 254, Metric: 600},
		}}, link(t, "eth1"))
	check(t, Link{Name: "eth2", Up: true, Type: "veth", MTU: 1500,
		Addrs: []Addr{{Prefix: netip.MustParsePrefix("198.51.100.2/24"), Usable: true}},
		Defaults: []Default{
			{Table: 254, Metric: 0},
			{Table: 254, Metric: 30},
			{Gateway: gw("198.51.100.1"), Table: 254, Metric: 30},
			{Gateway: gw("fe80::9"), Table: 254, Metric: 40},
			{Gateway: gw("198.51.100.8"), Table: 26, Source: gw("198.51.100.2")},
			{Gateway: gw("fe80::1"), IPv6: true, Table: 254, Metric: 600},
		}}, link(t, "eth2"))
	want := []Default{{Table: 254, Metric: 9999}, {IPv6: true, Table: 254, Metric: 9999}}
	if diff := cmp.Diff(want, read(t).Refused, compare); diff != "" {
		t.Errorf("refused: -want +got\n%s", diff)
	}
}

// A router on the link announces itself and a prefix.
func TestRouterAdvertisement(t *testing.T) {
	pair(t, "eth1", "far1")
	for name, value := range map[string]string{"use_tempaddr": "2", "accept_dad": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/eth1/"+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	ip(t, `
		link set eth1 addrgenmode eui64
		link set eth1 address 02:00:00:00:00:01
		addr add fe80::ff:fe00:1/64 dev eth1 nodad
		addr add fe80::2/64 dev far1 nodad`)
	advertise(t, "far1", netip.MustParseAddr("fe80::2"), netip.MustParseAddr("2001:db8:7::"))

	address := netip.MustParsePrefix("2001:db8:7:0:0:ff:fe00:1/64")
	s := await(t, "a default route and addresses", func(s Snapshot) bool {
		l, _ := s.Link("eth1")
		return len(l.Defaults) == 1 && len(l.Addrs) == 3 && slices.Contains(l.Addrs, Addr{Prefix: address, Usable: true})
	})
	l, _ := s.Link("eth1")
	if want := (Default{Gateway: netip.MustParseAddr("fe80::2"), IPv6: true, Table: 254, Metric: 1024}); l.Defaults[0] != want {
		t.Errorf("default %+v, want %+v", l.Defaults[0], want)
	}
	for _, a := range l.Addrs {
		if a.Usable != (a.Prefix == address) {
			t.Errorf("%+v: only %v is usable; the other one of its prefix is temporary", a, address)
		}
	}
}

// advertise sends a Router Advertisement (RFC 4861, sections 4.2 and 4.6.2).
func advertise(t *testing.T, device string, from, prefix netip.Addr) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	m := make([]byte, 48)
	m[0] = 134
	m[4] = 64                                   // hop limit
	binary.BigEndian.PutUint16(m[6:], 1800)     // router lifetime
	m[16], m[17], m[18], m[19] = 3, 4, 64, 0xc0 // prefix information: /64, on-link, autonomous
	binary.BigEndian.PutUint32(m[20:], 86400)   // valid
	binary.BigEndian.PutUint32(m[24:], 14400)   // preferred
	copy(m[32:], prefix.AsSlice())
	for _, err := range []error{
		unix.BindToDevice(fd, device),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
		unix.Bind(fd, &unix.SockaddrInet6{Addr: from.As16(), ZoneId: zone(t, device)}),
		unix.Sendto(fd, m, 0, &unix.SockaddrInet6{Addr: netip.MustParseAddr("ff02::1").As16(), ZoneId: zone(t, device)}),
	} {
		if err != nil {
			t.Fatal("sending a router advertisement:", err)
		}
	}
}

func zone(t *testing.T, device string) uint32 {
	t.Helper()
	l, ok := read(t).Link(device)
	if !ok {
		t.Fatal("no link", device)
	}
	return uint32(l.Index)
}

func TestTun(t *testing.T) {
	ip(t, `
		tuntap add tun7 mode tun
		link set tun7 addrgenmode none up`)
	defer ip(t, "link del tun7")
	check(t, Link{Name: "tun7", Type: "tun", MTU: 1500}, link(t, "tun7"))

	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()
	req, err := unix.NewIfreq("tun7")
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TUN)
	if err := unix.IoctlIfreq(int(tun.Fd()), unix.TUNSETIFF, req); err != nil {
		t.Fatal(err)
	}
	await(t, "the carrier of tun7", func(s Snapshot) bool { l, _ := s.Link("tun7"); return l.Up })
	ip(t, "link set tun7 down")
	await(t, "tun7 to be down", func(s Snapshot) bool { l, _ := s.Link("tun7"); return !l.Up })
}

func TestEqualNetworksAreEqual(t *testing.T) {
	pair(t, "eth1", "far1")
	ip(t, `
		addr add 192.0.2.2/24 dev eth1
		addr add 192.0.2.3/24 dev eth1
		route add default via 192.0.2.1`)
	first := read(t)
	for range 20 {
		if again := read(t); !first.Equal(again) {
			t.Fatal(cmp.Diff(first, again, compare))
		}
	}
	for i := 1; i < len(first.Links); i++ {
		if first.Links[i-1].Index >= first.Links[i].Index {
			t.Error("links are not in order")
		}
	}
	ip(t, `
		route del default
		route add default via 192.0.2.9`)
	if first.Equal(read(t)) {
		t.Error("another gateway is no difference")
	}
}

// Rules are read with what they do, but for our own.
func TestRules(t *testing.T) {
	for _, args := range []string{"pref 5270 lookup 52", "pref 700 lookup 7001", "pref 2001 fwmark 0x100/0x3f00 lookup 1",
		"pref 900 from 192.0.2.0/24 iif lo lookup 2", "pref 902 lookup main suppress_prefixlength 0", "pref 903 not fwmark 1 lookup 4",
		"pref 904 to 198.51.100.0/24 ipproto udp dport 53-54 goto 5270", "pref 905 from 192.0.2.9 prohibit",
		"pref 32765 fwmark 0/0xc0ffffff lookup main suppress_prefixlength 0"} {
		ip(t, "rule add "+args)
		defer ip(t, "rule del "+args)
	}
	ip(t, "-6 rule add pref 5270 oif eth9 lookup 52")
	defer ip(t, "-6 rule del pref 5270")
	p := netip.MustParsePrefix
	want := []Rule{
		{Pref: 0, Table: 255},
		{Pref: 900, Table: 2, Source: p("192.0.2.0/24"), In: "lo"},
		{Pref: 902, Table: 254, NoDefault: true},
		{Pref: 903, Table: 4, Mark: 1, Mask: 0xffffffff, Invert: true},
		{Pref: 904, Goto: 5270, Dest: p("198.51.100.0/24"), Proto: unix.IPPROTO_UDP, Port: Ports{53, 54}},
		{Pref: 905, Refuses: true, Source: p("192.0.2.9/32")},
		{Pref: 2001, Table: 1, Mark: 0x100, Mask: 0x3f00},
		{Pref: 5270, Table: 52},
		{Pref: 32766, Table: 254},
		{Pref: 32767, Table: 253},
		{Pref: 0, IPv6: true, Table: 255},
		{Pref: 5270, IPv6: true, Table: 52, Out: "eth9"},
		{Pref: 32766, IPv6: true, Table: 254},
	}
	if diff := cmp.Diff(want, read(t).Rules, compare); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The kernel says where it would send from, of a deprecated address too if
// there is no other.
func TestSource6(t *testing.T) {
	pair(t, "eth1", "far1")
	pair(t, "lan1", "far2")
	ip(t, `
		addr add 2001:db8:1::1/64 dev lan1 nodad
		-6 route add default via fe80::1 dev eth1`)
	source := func() string { l, _ := read(t).Link("eth1"); return l.Source6.String() }
	if got := source(); got != "2001:db8:1::1" {
		t.Errorf("with an address inside alone: %s", got)
	}
	ip(t, "addr add 2001:db8:2::2/64 dev eth1 nodad preferred_lft 0")
	if got := source(); got != "2001:db8:1::1" {
		t.Errorf("with a deprecated one: %s", got)
	}
	ip(t, "addr del 2001:db8:1::1/64 dev lan1")
	if got := source(); got != "2001:db8:2::2" {
		t.Errorf("with a deprecated one alone: %s", got)
	}
}

func TestIPsec(t *testing.T) {
	if read(t).IPsec {
		t.Error("a policy where there is none")
	}
	const policy = "src 192.168.1.0/24 dst 10.9.0.0/16 dir out"
	ip(t, "xfrm policy add "+policy+" tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel")
	defer ip(t, "xfrm policy del "+policy)
	if !read(t).IPsec {
		t.Error("the policy is not seen")
	}
}
