// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/agent/plan"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

const fibre, lte = 1 << 24, 2 << 24

// entry makes an entry whose flow leaves translated, from an address of ours.
func entry(t *testing.T, name int, mark uint32, from, dest string) {
	t.Helper()
	source := "192.168.1.20"
	if strings.Contains(dest, ":") {
		source = "2001:db8:1::20"
	}
	conntrack(t, "-I", "-p", "udp", "-s", source, "-d", dest, "-r", dest, "-q", from,
		"--sport", fmt.Sprint(name), "--dport", "53", "--reply-port-src", "53", "--reply-port-dst", fmt.Sprint(name),
		"-t", "600", "-m", fmt.Sprint(mark))
}

func conntrack(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("conntrack", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("conntrack %v: %v: %s", args, err, out)
	}
	return string(out)
}

// connection makes the entry of a TCP connection that leaves translated.
func connection(t *testing.T, port, mark uint32, state, from, server string) {
	t.Helper()
	source := "192.168.1.20"
	if strings.Contains(server, ":") {
		source = "2001:db8:1::20"
	}
	conntrack(t, "-I", "-p", "tcp", "--state", state, "-s", source, "-d", server, "-r", server, "-q", from,
		"--sport", fmt.Sprint(port), "--dport", "21", "--reply-port-src", "21", "--reply-port-dst", fmt.Sprint(port), "-t", "600", "-m", fmt.Sprint(mark))
}

// Who has something open when flows are divided otherwise keeps its WAN until
// that has ended, and not for what comes later.
func TestKept(t *testing.T) {
	conntrack(t, "-F")
	t.Cleanup(func() { conntrack(t, "-F") })
	addr := netip.MustParseAddr
	var s Sweeper
	wans := []plan.FlowWAN{{Mark: fibre, IPv4: true, IPv6: true}, {Mark: lte, IPv4: true, IPv6: true, New4: 50, New6: 50}}
	expect := func(name string, want ...plan.Kept) {
		t.Helper()
		if err := errors.Join(s.Apply(wans), s.collect(true)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, s.Kept(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	expect("nothing is open")
	connection(t, 1, lte, "ESTABLISHED", "100.64.0.2", "192.0.2.80")
	connection(t, 2, lte, "ESTABLISHED", "100.64.0.2", "192.0.2.80")
	connection(t, 3, lte|0x100, "ESTABLISHED", "2001:db8:c::2", "2001:db8:80::80")
	connection(t, 4, lte, "TIME_WAIT", "100.64.0.2", "192.0.2.81")
	connection(t, 5, 0, "ESTABLISHED", "100.64.0.2", "192.0.2.82")
	connection(t, 6, fibre, "ESTABLISHED", "192.168.1.20", "192.0.2.83") // not translated
	entry(t, 7, lte, "100.64.0.2", "192.0.2.84")                         // UDP
	expect("nothing has changed")
	wans = slices.Clone(wans)
	wans[0].New4, wans[0].New6 = 100, 100
	four := plan.Kept{Host: addr("192.168.1.20"), Server: addr("192.0.2.80"), Mark: lte}
	six := plan.Kept{Host: addr("2001:db8:1::20"), Server: addr("2001:db8:80::80"), Mark: lte}
	expect("fibre is back", four, six)

	connection(t, 8, fibre, "ESTABLISHED", "198.51.100.2", "192.0.2.85")
	conntrack(t, "-D", "-p", "tcp", "--sport", "1")
	expect("not yet", four, six)
	s.at = s.at.Add(-again)
	expect("one has ended", four, six)
	conntrack(t, "-D", "-p", "tcp", "--sport", "2")
	s.at = s.at.Add(-again)
	expect("the other, too", six)
	wans = slices.Clone(wans)
	wans[1].IPv6, wans[1].New6 = false, 0
	five := plan.Kept{Host: addr("192.168.1.20"), Server: addr("192.0.2.85"), Mark: fibre}
	expect("lte has lost IPv6", five)

	// What is there because it was kept does not keep others.
	connection(t, 9, fibre, "ESTABLISHED", "198.51.100.2", "192.0.2.85")
	conntrack(t, "-D", "-p", "tcp", "--sport", "8")
	wans = slices.Clone(wans)
	wans[1].New4 = 60
	expect("lte has another weight")

	connection(t, 10, fibre, "ESTABLISHED", "198.51.100.2", "192.0.2.86")
	wans = slices.Clone(wans)
	wans[1].New4 = 0
	six = plan.Kept{Host: addr("192.168.1.20"), Server: addr("192.0.2.86"), Mark: fibre}
	expect("all that is new goes to the fibre", five, six)
	wans = slices.Clone(wans)
	wans[0].Main4, wans[1].New4 = true, 50
	expect("lte is back", five, six)

	// While all goes to the fibre anyway, nobody is there because it was kept.
	wans = slices.Clone(wans)
	wans[1].New4 = 0
	expect("lte is away", five, six)
	if s.at = s.at.Add(-again); s.old() {
		t.Error("the table is read each minute although nobody is led anywhere")
	}
	connection(t, 11, fibre, "ESTABLISHED", "198.51.100.2", "192.0.2.86")
	conntrack(t, "-D", "-p", "tcp", "--sport", "10")
	wans = slices.Clone(wans)
	wans[1].New4 = 50
	expect("lte is back again", five, six)

	// After the teardown they are whose they were.
	wans = nil
	expect("teardown")
	s.at = s.at.Add(-again)
	expect("a minute later")
	if left := there(t); !slices.Equal(left, []string{"11", "21", "21", "21", "21", "5", "6", "9"}) {
		t.Errorf("%v are left", left)
	}
}

// there are the names of the entries that are left.
func there(t *testing.T) (names []string) {
	t.Helper()
	for _, family := range []string{"ipv4", "ipv6"} {
		for line := range strings.Lines(conntrack(t, "-L", "-f", family)) {
			for _, f := range strings.Fields(line) {
				if name, ok := strings.CutPrefix(f, "sport="); ok && name != "53" {
					names = append(names, name)
				}
			}
		}
	}
	slices.Sort(names)
	return names
}

func TestSweep(t *testing.T) {
	addr := netip.MustParseAddr
	both := []plan.FlowWAN{
		{Mark: fibre, IPv4: true, IPv6: true, Addrs: []netip.Addr{addr("198.51.100.2")}, Main4: true, Main6: true},
		{Mark: lte, IPv4: true, IPv6: true, Addrs: []netip.Addr{addr("100.64.0.2")}},
	}
	with := func(change func(wans []plan.FlowWAN)) []plan.FlowWAN {
		wans := slices.Clone(both)
		change(wans)
		return wans
	}
	for _, tt := range []struct {
		name string
		wans []plan.FlowWAN
		left []string
	}{
		{"nothing has changed", both, []string{"1", "2", "3", "4", "5", "6", "7"}},
		{"lte is dead", with(func(w []plan.FlowWAN) { w[1].IPv4, w[1].IPv6 = false, false }), []string{"1", "3", "5", "6"}},
		{"lte has lost IPv4", with(func(w []plan.FlowWAN) { w[1].IPv4 = false }), []string{"1", "3", "4", "5", "6", "7"}},
		{"lte is gone", both[:1], []string{"1", "3", "5", "6"}},
		{"fibre has another address", with(func(w []plan.FlowWAN) { w[0].Addrs = []netip.Addr{addr("198.51.100.3")} }), []string{"2", "3", "4", "5", "6", "7"}},
		{"the other way round", with(func(w []plan.FlowWAN) { w[0].Addrs, w[1].Addrs = w[1].Addrs, w[0].Addrs }), []string{"3", "4", "5", "6", "7"}},
		{"teardown", nil, []string{"1", "3", "5", "6"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conntrack(t, "-F")
			var s Sweeper
			apply := func(wans []plan.FlowWAN) {
				t.Helper()
				if err := errors.Join(s.Apply(wans), s.collect(true)); err != nil {
					t.Fatal(err)
				}
			}
			apply(both)
			entry(t, 1, fibre, "198.51.100.2", "192.0.2.80")
			entry(t, 2, lte, "100.64.0.2", "192.0.2.80")
			entry(t, 3, 0x100, "198.51.100.9", "192.0.2.80") // somebody else's mark
			entry(t, 4, lte, "2001:db8:c::2", "2001:db8:80::80")
			entry(t, 5, fibre, "2001:db8:1::20", "2001:db8:80::80")
			entry(t, 6, fibre|0x100, "192.168.1.20", "192.0.2.80") // not translated
			entry(t, 7, lte, "2001:db8:1::20", "2001:db8:80::80")
			apply(tt.wans)
			if diff := cmp.Diff(tt.left, there(t)); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

// A table that takes long to read keeps nobody waiting, and what changes
// meanwhile is seen to afterwards.
func TestSweepBesideTheLoop(t *testing.T) {
	conntrack(t, "-F")
	var restore strings.Builder
	const many = 20_000
	for n := range many {
		fmt.Fprintf(&restore, "-I -p udp -s 192.168.1.20 -d 192.0.%d.%d --sport %d --dport 53 -t 600 -m %d\n", n/256%256, n%256, 1024+n, lte)
	}
	load := exec.Command("conntrack", "-R", "-")
	load.Stdin = strings.NewReader(restore.String())
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { conntrack(t, "-F") })
	s := Sweeper{EndedC: make(chan struct{}, 1)}
	wans := []plan.FlowWAN{{Mark: fibre, IPv4: true}, {Mark: lte, IPv4: true}}
	var longest time.Duration
	apply := func(wans []plan.FlowWAN) {
		t.Helper()
		began := time.Now()
		if err := s.Apply(wans); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(began))
	}
	began := time.Now()
	apply(wans)
	wans = slices.Clone(wans)
	wans[1].IPv4 = false
	for range 2 {
		apply(wans)
		<-s.EndedC
	}
	apply(wans)
	took := time.Since(began)
	t.Logf("%d entries took %v, a call at most %v", many, took, longest)
	if n := strings.TrimSpace(conntrack(t, "-C")); n != "0" {
		t.Errorf("%s entries are left", n)
	}
	if longest > took/4 {
		t.Errorf("a call took %v of %v", longest, took)
	}
}
