// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
)

// far is a namespace with the peer. Over a veth pair each, fibre and lte lead
// from here to there.
type far struct {
	t   *testing.T
	pid int
}

const addFibre = `
ip link add fibre type veth peer name fibre netns %[1]d
ip addr add 198.51.100.2/24 dev fibre
ip addr add 2001:db8:f::2/64 dev fibre nodad
ip link set fibre up
nsenter -t %[1]d -n sh -e <<.
  ip addr add 198.51.100.1/24 dev fibre
  ip addr add 2001:db8:f::1/64 dev fibre nodad
  ip link set fibre up
.
ip route add default via 198.51.100.1 dev fibre metric 1
ip route add default via 2001:db8:f::1 dev fibre metric 1
`

func newFar(t *testing.T) *far {
	t.Helper()
	cmd := exec.Command("unshare", "-n", "sh", "-ec", "ip link set lo up; ip addr add 192.0.2.10/32 dev lo; ip addr add 2001:db8:10::10/128 dev lo nodad; echo ready; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
		t.Fatal(err)
	}
	f := &far{t, cmd.Process.Pid}
	lte := strings.NewReplacer("fibre", "lte", "198.51.100.", "100.64.0.", "db8:f::", "db8:c::", "metric 1", "metric 2").Replace(addFibre)
	f.sh(addFibre + lte)
	t.Cleanup(func() { f.sh("ip link del fibre; ip link del lte") })
	return f
}

// sh runs a script here, with the pid of the other namespace.
func (f *far) sh(script string) {
	f.t.Helper()
	script = strings.ReplaceAll(script, "%[1]d", strconv.Itoa(f.pid))
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		f.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// nft runs a command in the other namespace.
func (f *far) nft(command string) {
	f.t.Helper()
	f.sh("nsenter -t %[1]d -n nft " + command)
}

func (f *far) drop(what string) {
	f.t.Helper()
	f.nft(`'table inet t { chain i { type filter hook input priority 0; ` + what + ` drop; }; }'`)
}

// there runs something in the other namespace.
func (f *far) there(do func() error) {
	f.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		f.t.Fatal(err)
	}
	defer here.Close()
	there, err := netns.GetFromPid(f.pid)
	if err != nil {
		f.t.Fatal(err)
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		f.t.Fatal(err)
	}
	failed := do()
	if err := netns.Set(here); err != nil {
		f.t.Fatal(err)
	}
	if failed != nil {
		f.t.Fatal(failed)
	}
}

// stream sends packets to an address here until ctx ends.
func (f *far) stream(ctx context.Context, to string) {
	f.t.Helper()
	var c net.Conn
	f.there(func() (err error) {
		c, err = net.Dial("udp", to)
		return err
	})
	go func() {
		defer c.Close()
		for tick := time.NewTicker(ms); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				c.Write(make([]byte, 100)) // refused once the device is gone
			}
		}
	}()
}

// wait waits for a verdict and says how long it took.
func wait(t *testing.T, m *Monitor, within time.Duration, what string, done func(map[Leg]Health) bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !done(m.Health()) {
		if time.Since(start) > within {
			t.Fatalf("%s: not within %v: %+v", what, within, m.Health())
		}
		time.Sleep(5 * ms)
	}
	return time.Since(start)
}

func TestMonitor(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := newFar(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := NewMonitor(discard)
	doneC := start(ctx, m)
	var targets []Target
	for _, v := range []struct{ wan, source string }{
		{"fibre", "198.51.100.2"}, {"fibre", "2001:db8:f::2"}, {"lte", "100.64.0.2"}, {"lte", "2001:db8:c::2"},
	} {
		source, peer := netip.MustParseAddr(v.source), peer4
		if source.Is6() {
			peer = peer6
		}
		targets = append(targets, Target{Leg: Leg{v.wan, v.wan, source.Is6()}, Source: source, Ways: Ways{peer}})
	}
	m.SetTargets(targets)
	fibre := func(v Verdict) func(map[Leg]Health) bool {
		return func(h map[Leg]Health) bool {
			return (h[fibre4].Verdict == Down) == (v == Down) && (h[fibre6].Verdict == Down) == (v == Down)
		}
	}
	wait(t, m, 4*time.Second, "probes", func(h map[Leg]Health) bool {
		for _, p := range []Leg{fibre4, fibre6, lte4, lte6} {
			if h[p].RTT == 0 || m.samples(p) < minSamples {
				return false
			}
		}
		return true
	})

	f.stream(ctx, "198.51.100.2:9")
	time.Sleep(2 * slowTick)
	f.nft(`'table netdev t { chain e { type filter hook egress device "fibre" priority 0; drop; }; }'`)
	wait(t, m, time.Second, "black hole", fibre(Down))
	for p, h := range m.Health() {
		if p.WAN == "fibre" && !strings.HasPrefix(h.Reason, "received nothing for ") {
			t.Errorf("black hole: %+v: %+v", p, h)
		}
		if p.WAN == "lte" && h.Verdict != Up {
			t.Errorf("black hole elsewhere: %+v: %+v", p, h)
		}
	}
	f.nft("delete table netdev t")
	if d := wait(t, m, proof+2*deadInterval, "back", fibre(Up)); d < proof {
		t.Errorf("trusted again after %v", d)
	}

	// The targets stay as they are: it comes and goes too fast for anyone to see.
	f.sh("ip link del fibre")
	wait(t, m, 5*time.Second, "deleted", fibre(Down))
	f.sh(addFibre)
	wait(t, m, 20*time.Second, "made again", fibre(Up))

	m.SetTargets(targets[2:])
	if h := m.Health()[fibre4]; h.Verdict != Down || h.Reason != "was away" {
		t.Errorf("no target any more: %+v", h)
	}
	m.SetTargets(targets)
	wait(t, m, 20*time.Second, "a target again", fibre(Up))

	// Who is to be quiet is not probed, whoever asks, and is as well as it was.
	quiet := slices.Clone(targets)
	quiet[0].Quiet, quiet[1].Quiet = true, true
	m.SetTargets(quiet)
	wait(t, m, 5*time.Second, "quiet", func(map[Leg]Health) bool { return !m.probed("fibre") })
	asked := m.samples(fibre4)
	m.Kick("fibre")
	time.Sleep(2 * urgentInterval)
	if n := m.samples(fibre4) - asked; n != 0 || !fibre(Up)(m.Health()) {
		t.Errorf("quiet: %d answers, %+v", n, m.Health())
	}
	m.SetTargets(targets)
	wait(t, m, 5*time.Second, "heard again", func(map[Leg]Health) bool { return m.samples(fibre4) > asked })
	if !fibre(Up)(m.Health()) {
		t.Errorf("it had to prove itself: %+v", m.Health())
	}

	// What somebody else knows takes it down at once; that it may be over, its
	// probes show.
	m.Condemn("fibre", "registration denied")
	for p, h := range m.Health() {
		if p.WAN == "lte" && h.Verdict == Down || p.WAN == "fibre" && (h.Verdict != Down || !strings.HasPrefix(h.Reason, "registration denied")) {
			t.Errorf("condemned is fibre: %+v: %+v", p, h)
		}
	}
	if d := wait(t, m, 30*time.Second, "proven", fibre(Up)); d < proof {
		t.Errorf("trusted again after %v", d)
	}
	cancel()
	if err := <-doneC; err != nil {
		t.Error(err)
	}
}

// probed says whether anything of a WAN is.
func (m *Monitor) probed(wan string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := range m.probers {
		if p.WAN == wan {
			return true
		}
	}
	return false
}

// samples are how many answers of a path were taken in.
func (m *Monitor) samples(p Leg) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trackers[p].samples
}

func TestICMPFiltered(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := newFar(t)
	f.drop("meta l4proto icmp")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := NewMonitor(discard)
	doneC := start(ctx, m)
	m.SetTargets([]Target{
		{Leg: fibre4, Source: netip.MustParseAddr("198.51.100.2"), Ways: Ways{peer4}},
		{Leg: lte4, Source: netip.MustParseAddr("100.64.0.2"), Ways: Ways{peer4}, Patient: true},
	})
	wait(t, m, 8*time.Second, "filtered", func(h map[Leg]Health) bool {
		if h[fibre4].Verdict == Down || h[lte4].Verdict == Down {
			t.Fatalf("down: %+v", h)
		}
		return h[fibre4].Verdict == Degraded && h[lte4].Verdict == Degraded
	})
	f.nft("delete table inet t")
	wait(t, m, 3*deadInterval, "no longer", func(h map[Leg]Health) bool { return h[fibre4].RTT > 0 && h[lte4].RTT > 0 })
	if h := m.Health(); h[fibre4].Reason == "its probes are not answered" || h[lte4].Verdict == Down {
		t.Errorf("answered again: %+v", h)
	}
	cancel()
	if err := <-doneC; err != nil {
		t.Error(err)
	}
}

// A peer that answers no ping is asked by TCP. A black hole is found by that as
// well.
func TestEchoFiltered(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := newFar(t)
	f.drop("icmp type echo-request drop; icmpv6 type echo-request")
	f.there(func() error {
		l, err := net.Listen("tcp", ":5124")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := NewMonitor(discard)
	doneC := start(ctx, m)
	var targets []Target
	for _, v := range []struct{ wan, source string }{
		{"fibre", "198.51.100.2"}, {"fibre", "2001:db8:f::2"}, {"lte", "100.64.0.2"}, {"lte", "2001:db8:c::2"},
	} {
		source, peer := netip.MustParseAddr(v.source), peer4
		if source.Is6() {
			peer = peer6
		}
		targets = append(targets, Target{Leg: Leg{v.wan, v.wan, source.Is6()}, Source: source,
			Ways: Ways{peer, netip.AddrPortFrom(peer.Addr(), 5124)}})
	}
	m.SetTargets(targets)
	f.stream(ctx, "198.51.100.2:9")
	wait(t, m, 10*time.Second, "answers", func(h map[Leg]Health) bool {
		for _, p := range []Leg{fibre4, fibre6, lte4, lte6} {
			if h[p].Verdict != Up || h[p].RTT == 0 || p.WAN == "fibre" && m.samples(p) < minSamples {
				return false
			}
		}
		return true
	})
	f.nft(`'table netdev t { chain e { type filter hook egress device "fibre" priority 0; drop; }; }'`)
	wait(t, m, time.Second, "black hole", func(h map[Leg]Health) bool {
		return h[fibre4].Verdict == Down && h[fibre6].Verdict == Down
	})
	for p, h := range m.Health() {
		if p.WAN == "fibre" && !strings.HasPrefix(h.Reason, "received nothing for ") || p.WAN == "lte" && h.Verdict != Up {
			t.Errorf("%+v: %+v", p, h)
		}
	}
	f.nft("delete table netdev t")
	wait(t, m, proof+4*deadInterval, "back", func(h map[Leg]Health) bool { return h[fibre4].Verdict != Down && h[fibre6].Verdict != Down })
	cancel()
	if err := <-doneC; err != nil {
		t.Error(err)
	}
}

func TestRunEndsAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	m := NewMonitor(discard)
	m.SetTargets([]Target{
		{Leg: fibre4, Source: netip.MustParseAddr("198.51.100.2"), Ways: Ways{peer4}},
		{Leg: lte4},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*ms)
	defer cancel()
	if err := m.Run(ctx); err != nil {
		t.Error(err)
	}
	if h := m.Health(); h[fibre4].Verdict != Up || h[lte4].Verdict != Up {
		t.Errorf("%+v", h)
	}
}
