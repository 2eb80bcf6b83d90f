// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcppm_test

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"braid/agent/kernel/mptcppm"
	"braid/agent/kernel/sysctl"
	"braid/test/netns"
	"braid/transport/mptcp"
)

func TestMain(m *testing.M) { netns.Main(m) }

func ip(t *testing.T, args string) string {
	t.Helper()
	b, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, b)
	}
	return string(b)
}

func everything(t *testing.T) string {
	t.Helper()
	return ip(t, "mptcp endpoint show") + ip(t, "mptcp limits show")
}

func address(host int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(host)}) }

func subflow(id uint8, host int, more mptcp.EndpointFlags) mptcp.Endpoint {
	return mptcp.Endpoint{ID: id, Addr: address(host), Device: 1, Flags: mptcp.FlagSubflow | more}
}

var (
	six    = mptcp.Endpoint{ID: 255, Addr: netip.MustParseAddr("2001:db8::7"), Device: 1, Flags: mptcp.FlagSubflow | mptcp.FlagFullmesh}
	larger = &mptcp.Limits{Subflows: 8, AddAddrsAccepted: 7}
)

// start gives the namespace somebody else's endpoints and limits, and a Keeper
// with its file.
func start(t *testing.T) (k *sysctl.Keeper, file string) {
	t.Helper()
	ip(t, "mptcp endpoint flush")
	ip(t, "mptcp endpoint add 192.0.2.101 id 1 subflow dev lo")
	ip(t, "mptcp endpoint add 192.0.2.102 id 223 signal")
	ip(t, "mptcp limits set subflows 3 add_addr_accepted 1")
	file = filepath.Join(t.TempDir(), "originals")
	return open(t, file), file
}

func open(t *testing.T, file string) *sysctl.Keeper {
	t.Helper()
	k, err := sysctl.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func apply(t *testing.T, k *sysctl.Keeper, eps []mptcp.Endpoint, limits *mptcp.Limits) {
	t.Helper()
	if err := mptcppm.Apply(k, eps, limits); err != nil {
		t.Fatal(err)
	}
}

// check compares our endpoints.
func check(t *testing.T, want ...mptcp.Endpoint) {
	t.Helper()
	got, err := mptcp.Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	got = slices.DeleteFunc(got, func(e mptcp.Endpoint) bool { return e.ID < 224 })
	slices.SortFunc(got, func(a, b mptcp.Endpoint) int { return int(a.ID) - int(b.ID) })
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func checkLimits(t *testing.T, want mptcp.Limits) {
	t.Helper()
	if got, err := mptcp.GetLimits(); got != want || err != nil {
		t.Errorf("limits %+v, %v, want %+v", got, err, want)
	}
}

func TestApply(t *testing.T) {
	k, file := start(t)
	before := everything(t)
	for _, eps := range [][]mptcp.Endpoint{
		{subflow(224, 1, 0), six},
		{subflow(224, 1, mptcp.FlagBackup), six},                                                                  // in place
		{subflow(224, 1, mptcp.FlagSignal), six},                                                                  // not in place
		{subflow(224, 2, 0), subflow(225, 1, 0), six},                                                             // one has moved
		{subflow(224, 1, 0), subflow(225, 2, 0), six},                                                             // they change places
		{subflow(224, 1, 0), subflow(225, 2, 0), subflow(226, 3, 0), six},                                         // another one
		{{ID: 224, Addr: address(1), Flags: mptcp.FlagSubflow}, six},                                              // another device
		{subflow(230, 1, 0), subflow(231, 2, 0), subflow(232, 3, 0), six},                                         // other ids
		{subflow(224, 4, 0), subflow(225, 5, 0), subflow(226, 6, 0), subflow(227, 7, 0), subflow(228, 8, 0), six}, // no place is left
		{subflow(234, 11, 0), subflow(235, 12, 0), subflow(236, 13, 0), subflow(237, 14, 0), subflow(238, 15, 0), six},
	} {
		apply(t, k, eps, larger)
		check(t, eps...)
		checkLimits(t, *larger)
	}
	apply(t, k, nil, nil)
	if diff := cmp.Diff(before, everything(t)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file of originals is left:", err)
	}
}

func TestKilled(t *testing.T) {
	k, file := start(t)
	before := everything(t)
	apply(t, k, []mptcp.Endpoint{subflow(224, 1, 0), subflow(240, 2, 0)}, larger)

	apply(t, open(t, file), []mptcp.Endpoint{subflow(224, 1, 0)}, larger)
	check(t, subflow(224, 1, 0))
	apply(t, open(t, file), nil, nil)
	if diff := cmp.Diff(before, everything(t)); diff != "" {
		t.Error(diff)
	}
}

func TestLimitsChangedByOthers(t *testing.T) {
	k, _ := start(t)
	apply(t, k, nil, larger)
	ip(t, "mptcp limits set subflows 5 add_addr_accepted 5")
	var changed *sysctl.ChangedError
	if err := mptcppm.Apply(k, nil, larger); !errors.As(err, &changed) {
		t.Errorf("error %v, want a ChangedError", err)
	}
	checkLimits(t, *larger)
	apply(t, k, nil, nil)
	checkLimits(t, mptcp.Limits{Subflows: 3, AddAddrsAccepted: 1})
}

func TestConflict(t *testing.T) {
	k, _ := start(t)
	before := everything(t)
	w := subflow(224, 101, 0)
	err := mptcppm.Apply(k, []mptcp.Endpoint{w, six}, nil)
	var conflict *mptcppm.ConflictError
	if !errors.As(err, &conflict) || !errors.Is(err, unix.EEXIST) {
		t.Fatalf("error %v, want a ConflictError that wraps EEXIST", err)
	}
	if conflict.Want != w || conflict.Holder != subflow(1, 101, 0) {
		t.Errorf("conflict of %+v with %+v", conflict.Want, conflict.Holder)
	}
	check(t, six)
	apply(t, k, nil, nil)
	if diff := cmp.Diff(before, everything(t)); diff != "" {
		t.Error(diff)
	}
}

func TestNotOurs(t *testing.T) {
	k, _ := start(t)
	before := everything(t)
	for _, id := range []uint8{0, 1, 223} {
		if err := mptcppm.Apply(k, []mptcp.Endpoint{subflow(id, 9, 0)}, nil); err == nil {
			t.Errorf("no error for id %d", id)
		}
	}
	if diff := cmp.Diff(before, everything(t)); diff != "" {
		t.Error(diff)
	}
}

// connect opens a connection from 192.0.2.21 to 192.0.2.22 whose far end
// echoes.
func connect(t *testing.T) *mptcp.Conn {
	t.Helper()
	l, err := mptcp.Listen(t.Context(), netip.MustParseAddrPort("0.0.0.0:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		if c, err := l.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	var d mptcp.Dialer
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	c, err := d.Dial(t.Context(), address(21), netip.AddrPortFrom(address(22), port), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// until moves bytes to and fro until done, at most ten seconds.
func until(t *testing.T, c *mptcp.Conn, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := c.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if done() {
			return
		}
		if time.Now().After(end) {
			t.Fatal("it has not come to pass: ", ip(t, "mptcp endpoint show"))
		}
	}
}

// mib reads a counter of the namespace's MPTCP.
func mib(t *testing.T, name string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "MPTcpExt:") {
			lines = append(lines, strings.Fields(line))
		}
	}
	i := slices.Index(lines[0], name)
	if i < 0 {
		t.Fatalf("this kernel does not count %s", name)
	}
	n, err := strconv.Atoi(lines[1][i])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A connection shows what the endpoints go through: flags change in place, an
// endpoint that stays is not touched, one that is made anew closes its subflow
// and opens another.
func TestLiveConnection(t *testing.T) {
	k, _ := start(t)
	for _, host := range []string{"21", "22", "23"} {
		ip(t, "addr add 192.0.2."+host+"/32 dev lo")
		defer ip(t, "addr del 192.0.2."+host+"/32 dev lo")
	}
	ip(t, "mptcp endpoint flush")
	type counts struct{ joins, removals, prios int }
	read := func() counts { return counts{mib(t, "MPJoinAckRx"), mib(t, "RmAddr"), mib(t, "MPPrioRx")} }
	before := read()
	// The kernel now and then sends a removal twice, but none for nothing.
	expect := func(c *mptcp.Conn, want counts) {
		t.Helper()
		until(t, c, func() bool {
			got := read()
			removed := got.removals - before.removals
			return got.joins-before.joins == want.joins && got.prios-before.prios == want.prios &&
				(removed == want.removals || removed > want.removals && want.removals > 0)
		})
	}

	apply(t, k, []mptcp.Endpoint{subflow(224, 23, 0)}, larger)
	c := connect(t)
	expect(c, counts{joins: 1})
	apply(t, k, []mptcp.Endpoint{subflow(224, 23, 0)}, larger)
	apply(t, k, []mptcp.Endpoint{subflow(224, 23, mptcp.FlagBackup)}, larger)
	expect(c, counts{joins: 1, prios: 1})
	apply(t, k, []mptcp.Endpoint{subflow(224, 23, mptcp.FlagBackup)}, larger)
	apply(t, k, []mptcp.Endpoint{subflow(225, 23, 0)}, larger)
	expect(c, counts{joins: 2, prios: 1, removals: 1})
	apply(t, k, nil, nil)
	expect(c, counts{joins: 2, prios: 1, removals: 2})
}

// An endpoint that the kernel has made itself is in the way of ours. Here it
// makes one as it joins 192.0.2.23, which the peer has announced, from what
// the routing table gives.
func TestImplicit(t *testing.T) {
	k, _ := start(t)
	for _, host := range []string{"21", "22", "23", "24"} {
		ip(t, "addr add 192.0.2."+host+"/32 dev lo")
		defer ip(t, "addr del 192.0.2."+host+"/32 dev lo")
	}
	ip(t, "route replace local 192.0.2.23 dev lo table local src 192.0.2.24")
	ip(t, "mptcp endpoint flush")
	ip(t, "mptcp endpoint add 192.0.2.23 id 1 signal")

	c := connect(t)
	until(t, c, func() bool {
		eps, err := mptcp.Endpoints()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(eps, func(e mptcp.Endpoint) bool {
			return e.Addr == address(24) && e.Flags == mptcp.FlagImplicit
		})
	})
	apply(t, k, []mptcp.Endpoint{subflow(224, 24, 0)}, nil)
	check(t, subflow(224, 24, 0))
	apply(t, k, nil, nil)
	check(t, []mptcp.Endpoint{}...)
}
