// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"braid/test/netns"
	"braid/transport/journal"
	"braid/transport/mptcp"
)

func TestMain(m *testing.M) { netns.Main(m) }

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
}

type endpoints map[netip.Addr]mptcp.EndpointFlags

func have(t *testing.T) endpoints {
	t.Helper()
	eps, err := mptcp.Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	got := make(endpoints)
	for _, e := range eps {
		got[e.Addr] = e.Flags
	}
	return got
}

func signalled(addrs ...string) endpoints {
	want := make(endpoints)
	for _, a := range addrs {
		want[netip.MustParseAddr(a)] = mptcp.FlagSignal
	}
	return want
}

func expect(t *testing.T, when string, want endpoints) {
	t.Helper()
	if got := have(t); !maps.Equal(got, want) {
		t.Errorf("%s: endpoints %v, want %v", when, got, want)
	}
}

func limit(t *testing.T) int {
	t.Helper()
	l, err := mptcp.GetLimits()
	if err != nil {
		t.Fatal(err)
	}
	return l.Subflows
}

// world has an interface with a default route and addresses of all sorts.
func world(t *testing.T) {
	t.Helper()
	for _, c := range []string{
		"link add v0 type veth peer name v1", "link set v0 up", "link set v1 up",
		"addr add 2001:db8:10:1::10/64 dev v1 nodad", // v1 has no default route
		"addr add 192.0.2.10/24 dev v0", "addr add 192.0.2.11/24 dev v0", "addr add 10.0.0.1/8 dev v0", "addr add 100.64.0.1/10 dev v0",
		"addr add 2001:db8:10::10/64 dev v0 nodad", "addr add fd00::1/64 dev v0 nodad",
		"addr add 2001:db8:10::bad/64 dev v0 nodad preferred_lft 0", // deprecated
		"link add docker type veth peer name v2", "link set docker up", "addr add 198.51.100.1/24 dev docker",
		"route add default via 192.0.2.1", "-6 route add default via fe80::1 dev v0",
	} {
		ip(t, c)
	}
	t.Cleanup(func() { ip(t, "link del v0"); ip(t, "link del docker") })
}

func newHost(dir string, announce ...netip.Addr) *Host {
	return &Host{Log: journal.New(io.Discard), Announce: func() []netip.Addr { return announce }, Dir: dir}
}

func TestRun(t *testing.T) {
	world(t)
	limits := limit(t)
	fast, err := readFastOpen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var log bytes.Buffer
	h := newHost(t.TempDir())
	h.Log = journal.New(&log)
	h.Prepare()
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	expect(t, "running", signalled("192.0.2.10", "192.0.2.11", "2001:db8:10::10"))
	if n := limit(t); n != subflows {
		t.Errorf("limit %d", n)
	}
	if v, err := readFastOpen(); err != nil || v&fastOpen != fastOpen {
		t.Errorf("tcp_fastopen %d, %v", v, err)
	}
	cancel()
	running.Wait()
	expect(t, "after", endpoints{})
	if v, _ := readFastOpen(); limit(t) != limits || v != fast {
		t.Errorf("limit %d and tcp_fastopen %d, were %d and %d", limit(t), v, limits, fast)
	}
	if strings.Contains(log.String(), "WARN") {
		t.Error(log.String())
	}
}

// What changes while it runs is followed.
func TestFollow(t *testing.T) {
	world(t)
	h := newHost(t.TempDir())
	h.Prepare()
	ip(t, "addr add 203.0.113.7/24 dev v0")
	ip(t, "addr del 192.0.2.11/24 dev v0")
	ip(t, "mptcp limits set subflows 1")
	h.look()
	expect(t, "after a change", signalled("192.0.2.10", "203.0.113.7", "2001:db8:10::10"))
	if n := limit(t); n != subflows {
		t.Errorf("limit %d", n)
	}
	ip(t, "mptcp endpoint flush")
	h.look()
	expect(t, "after somebody has flushed them", signalled("192.0.2.10", "203.0.113.7", "2001:db8:10::10"))
	h.Announce = func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.99")} }
	h.look()
	expect(t, "after a reload", signalled("192.0.2.99"))
	h.close()
	expect(t, "after", endpoints{})
}

// An address that is to change by itself within the day (RFC 8981) is nobody's to
// join tomorrow.
func TestTemporary(t *testing.T) {
	world(t)
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/v0/use_tempaddr", []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	ip(t, "addr add 2001:db8:11::10/64 dev v0 nodad mngtmpaddr")
	out, err := exec.Command("ip", "-6", "addr", "show", "dev", "v0", "temporary").Output()
	if err != nil || !bytes.Contains(out, []byte("2001:db8:11:")) {
		t.Fatalf("no temporary address: %s, %v", out, err)
	}
	h := newHost(t.TempDir())
	h.Prepare()
	defer h.close()
	expect(t, "beside a temporary address", signalled("192.0.2.10", "192.0.2.11", "2001:db8:10::10", "2001:db8:11::10"))
}

// A converter that was killed leaves nothing that its successor takes for the
// host's.
func TestKilled(t *testing.T) {
	world(t)
	limits := limit(t)
	dir := t.TempDir()
	killed := newHost(dir, netip.MustParseAddr("192.0.2.99"))
	killed.Prepare()
	killed.lock.Close() // as the kernel does
	h := newHost(dir)
	h.Prepare()
	expect(t, "the successor", signalled("192.0.2.10", "192.0.2.11", "2001:db8:10::10"))
	h.close()
	expect(t, "after", endpoints{})
	if n := limit(t); n != limits {
		t.Errorf("limit %d, was %d", n, limits)
	}
}

// Two converters on one host let each other live.
func TestTwo(t *testing.T) {
	world(t)
	limits := limit(t)
	dir := t.TempDir()
	one, two := newHost(dir), newHost(dir, netip.MustParseAddr("192.0.2.99"))
	one.Prepare()
	two.Prepare()
	all := signalled("192.0.2.10", "192.0.2.11", "2001:db8:10::10", "192.0.2.99")
	expect(t, "both", all)
	one.look()
	two.look()
	expect(t, "later", all)
	one.close()
	expect(t, "one has gone", all)
	if n := limit(t); n != subflows {
		t.Errorf("limit %d", n)
	}
	two.look() // alone now
	expect(t, "a little later", signalled("192.0.2.99"))
	two.close()
	expect(t, "after", endpoints{})
	if n := limit(t); n != limits {
		t.Errorf("limit %d, was %d", n, limits)
	}
}

// Somebody else's endpoint for an address that is to be announced, as
// NetworkManager makes them, gets the signal, and is as it was afterwards, also
// if we are killed in between.
func TestOthers(t *testing.T) {
	world(t)
	defer ip(t, "mptcp endpoint flush")
	ip(t, "mptcp endpoint add 192.0.2.10 id 5 dev v0 subflow backup")
	ip(t, "mptcp endpoint add 192.0.2.11 id 6 signal")
	ip(t, "mptcp endpoint add 10.0.0.1 id 7 subflow")
	before, err := mptcp.Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	killed := newHost(dir)
	killed.Prepare()
	want := signalled("192.0.2.10", "192.0.2.11", "2001:db8:10::10")
	want[netip.MustParseAddr("192.0.2.10")] |= mptcp.FlagSubflow | mptcp.FlagBackup
	want[netip.MustParseAddr("10.0.0.1")] = mptcp.FlagSubflow
	expect(t, "running", want)
	killed.lock.Close()
	h := newHost(dir)
	h.Prepare()
	expect(t, "the successor", want)
	h.close()
	after, err := mptcp.Endpoints()
	if err != nil || len(after) != len(before) {
		t.Errorf("%v, %v, were %v", after, err, before)
	}
	for _, e := range before {
		found := false
		for _, a := range after {
			found = found || a == e
		}
		if !found {
			t.Errorf("%+v is not there any more: %+v", e, after)
		}
	}
}

// Addresses that open connections may run over stay announced until these have
// ended, unless the host does not have them any more.
func TestBusy(t *testing.T) {
	world(t)
	ip(t, "addr add 192.0.2.12/24 dev v0")
	busy := false
	h := newHost(t.TempDir())
	h.Busy = func() bool { return busy }
	h.Announce = func() []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.12")}
	}
	h.Prepare()
	defer h.close()
	expect(t, "at first", signalled("192.0.2.10", "192.0.2.12"))
	busy = true
	h.Announce = func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.11")} }
	h.look()
	expect(t, "while connections are open", signalled("192.0.2.10", "192.0.2.11", "192.0.2.12"))
	ip(t, "addr del 192.0.2.12/24 dev v0")
	h.look()
	expect(t, "without an address", signalled("192.0.2.10", "192.0.2.11"))
	busy = false
	h.look()
	expect(t, "in the end", signalled("192.0.2.11"))
}

func TestIsLocal(t *testing.T) {
	world(t)
	ip(t, "route add local 203.0.113.64/26 dev lo")
	defer ip(t, "route del local 203.0.113.64/26 dev lo")
	for a, want := range map[string]bool{
		"192.0.2.10": true, "192.0.2.255": true, "127.0.0.1": true, "::1": true, "2001:db8:10::10": true, "203.0.113.70": true,
		"192.0.2.80": false, "203.0.113.1": false, "2001:db8::1": false,
	} {
		got, err := IsLocal(netip.MustParseAddr(a))
		// The kernel makes an IPv6 address usable a moment after it was added.
		for deadline := time.Now().Add(5 * time.Second); err == nil && got != want && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			got, err = IsLocal(netip.MustParseAddr(a))
		}
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", a, got, err)
		}
	}
}
