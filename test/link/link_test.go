// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package link_test

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/traffic"
)

// A line is the emulated link between the lab's gateway (a) and ISP (b), with a UDP flow over it.
type line struct {
	*link.Link
	w    *lab.World
	a    net.Conn       // connected to b
	b    net.PacketConn // of the ISP
	base link.Counters  // of a to b, before the test
}

// newLine makes a line without IPv6, whose own packets would be counted and lost as well.
func newLine(t *testing.T, ab, ba link.Spec) *line {
	t.Helper()
	fibre := lab.Fibre(link.Spec{}, link.Spec{})
	fibre.V6 = false
	w, err := lab.New(t.Context(), lab.Options{Accesses: []lab.Access{fibre}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	l := &line{Link: w.Link("fibre"), w: w}
	for _, n := range []*lab.Node{w.Gateway, w.WAN("fibre").Router} {
		if err := n.Sysctl("net.ipv6.conf.all.disable_ipv6", "1"); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Millisecond) // for what is on its way
	l.base = l.AB().Counters()
	for d, spec := range map[*link.Direction]link.Spec{l.AB(): ab, l.BA(): ba} {
		if err := d.Change(func(s *link.Spec) { *s = spec }); err != nil {
			t.Fatal(err)
		}
	}
	l.b, err = w.WAN("fibre").Router.ListenPacket(t.Context(), net.ListenConfig{}, "udp", "198.51.100.1:5001")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.b.Close() })
	l.a, err = w.Gateway.Dial(t.Context(), net.Dialer{}, "udp", "198.51.100.1:5001")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.a.Close() })
	l.b.(*net.UDPConn).SetReadBuffer(4 << 20)
	return l
}

// counters are those of a to b since the start of the test.
func (l *line) counters() link.Counters {
	c := l.AB().Counters()
	c.Packets -= l.base.Packets
	c.Bytes -= l.base.Bytes
	c.Drops.Down -= l.base.Drops.Down
	return c
}

const overhead = 28 // of UDP over IPv4

// flood sends packets of 1500 bytes from a to b at a rate in bit/s until the test ends.
func (l *line) flood(ctx context.Context, rate float64) {
	packet := make([]byte, link.MTU-overhead)
	start := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		binary.BigEndian.PutUint64(packet, uint64(i))
		l.a.Write(packet)
		due := time.Duration(float64(i) * link.MTU * 8 / rate * 1e9)
		if wait := due - time.Since(start); wait > time.Millisecond {
			time.Sleep(wait)
		}
	}
}

// arrivals measures the rate in bit/s at which b receives for a while.
func (l *line) arrivals(t *testing.T, d time.Duration) float64 {
	t.Helper()
	buf := make([]byte, 2048)
	var first, last time.Time
	total := 0
	l.b.SetReadDeadline(time.Now().Add(d))
	for {
		n, _, err := l.b.ReadFrom(buf)
		if err != nil {
			break
		}
		last = time.Now()
		if first.IsZero() {
			first = last
			continue
		}
		total += n + overhead
	}
	return float64(total) * 8 / last.Sub(first).Seconds()
}

// numbers are the first 8 bytes of each packet that b receives until there is none for a while.
func (l *line) numbers(t *testing.T) []uint64 {
	t.Helper()
	var got []uint64
	buf := make([]byte, 2048)
	for {
		l.b.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, _, err := l.b.ReadFrom(buf); err != nil {
			return got
		}
		got = append(got, binary.BigEndian.Uint64(buf))
	}
}

// send sends n small numbered packets from a to b, a little apart.
func (l *line) send(t *testing.T, n int) {
	t.Helper()
	packet := make([]byte, 100)
	for i := range n {
		binary.BigEndian.PutUint64(packet, uint64(i))
		if _, err := l.a.Write(packet); err != nil {
			t.Fatal(err)
		}
		if i%20 == 19 {
			time.Sleep(time.Millisecond)
		}
	}
}

func within(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if got < want*(1-share) || got > want*(1+share) {
		t.Errorf("%s is %.4g, want %.4g within %.0f %%", what, got, want, 100*share)
	}
}

func TestRate(t *testing.T) {
	bursty, err := link.ReadTrace(strings.NewReader("1\n1\n1\n1\n20\n30\n31\n40\n"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		spec link.Spec
		want float64
	}{
		{"1 Mbit/s", link.Spec{Rate: 1_000_000}, 1e6},
		{"20 Mbit/s after 30 ms", link.Spec{Rate: 20_000_000, Delay: 30 * time.Millisecond}, 20e6},
		{"150 Mbit/s", link.Spec{Rate: 150_000_000}, 150e6},
		{"trace", link.Spec{Trace: bursty}, 8 * 12000 / 0.040},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLine(t, tt.spec, link.Spec{})
			go l.flood(t.Context(), 1.3*tt.want)
			l.arrivals(t, 300*time.Millisecond) // until the queue is full
			within(t, "rate", l.arrivals(t, 2*time.Second), tt.want, 0.02)
			if c := l.counters(); c.Drops.Queue == 0 || c.Queued == 0 {
				t.Errorf("queue of an overloaded link drops nothing: %+v", c)
			}
		})
	}
}

func TestChange(t *testing.T) {
	l := newLine(t, link.Spec{Rate: 1_000_000, Queue: time.Second}, link.Spec{})
	go l.flood(t.Context(), 40e6)
	l.arrivals(t, time.Second)
	for _, rate := range []int64{30_000_000, 5_000_000} {
		if err := l.AB().Change(func(s *link.Spec) { s.Rate = rate; s.Queue = 50 * time.Millisecond }); err != nil {
			t.Fatal(err)
		}
		l.arrivals(t, 200*time.Millisecond)
		within(t, "rate", l.arrivals(t, time.Second), float64(rate), 0.02)
	}
	if got := l.AB().Spec().Rate; got != 5_000_000 {
		t.Errorf("spec says %d", got)
	}
	if err := l.AB().Change(func(s *link.Spec) { s.Loss = 2 }); err == nil || l.AB().Spec().Loss != 0 {
		t.Errorf("a loss of 2 is accepted, error %v", err)
	}
}

func TestDelay(t *testing.T) {
	tests := []struct {
		name   string
		ab, ba time.Duration
	}{
		{"none", 0, 0},
		{"unequal", 5 * time.Millisecond, 20 * time.Millisecond},
		{"long", 150 * time.Millisecond, 150 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLine(t, link.Spec{Delay: tt.ab}, link.Spec{Delay: tt.ba})
			go traffic.ServeUDP(l.b)
			r, err := traffic.Stream{Count: 100, Interval: 5 * time.Millisecond, Size: 200}.Run(t.Context(), l.a)
			if err != nil || r.Received != 100 {
				t.Fatalf("%v, error %v", r, err)
			}
			want := tt.ab + tt.ba
			if r.RTT.Min < want || r.RTT.P50 > want+time.Millisecond {
				t.Errorf("round trip takes %v, want %v within 1 ms", r.RTT, want)
			}
		})
	}
}

func TestQueue(t *testing.T) {
	// 20 full packets; one more is in transmission.
	l := newLine(t, link.Spec{Rate: 2_000_000, QueueBytes: 20 * link.MTU}, link.Spec{})
	packet := make([]byte, link.MTU-overhead)
	start := time.Now()
	for range 50 {
		l.a.Write(packet)
	}
	n := len(l.numbers(t))
	// While the packets came, the link has sent some.
	c := l.counters()
	if n < 20 || n > 23 || c.Drops.Queue != uint64(50-n) || c.Packets != uint64(n) || c.Bytes != uint64(n*link.MTU) {
		t.Errorf("%d of 50 packets arrived, counters %+v", n, c)
	}
	if d := time.Since(start) - 200*time.Millisecond; d < time.Duration(n)*6*time.Millisecond {
		t.Errorf("%d packets took %v", n, d)
	}
}

func TestLoss(t *testing.T) {
	const n = 5000
	run := func(seed uint64) []uint64 {
		l := newLine(t, link.Spec{Loss: 0.1, Seed: seed}, link.Spec{})
		l.send(t, n)
		got := l.numbers(t)
		if c := l.counters(); c.Packets != uint64(len(got)) || c.Drops.Loss != uint64(n-len(got)) {
			t.Errorf("%d of %d packets arrived, counters %+v", len(got), n, c)
		}
		within(t, "loss", float64(n-len(got))/n, 0.1, 0.15) // 3.5 standard deviations
		return got
	}
	first := run(1)
	if diff := cmp.Diff(first, run(1)); diff != "" {
		t.Errorf("same seed, other losses (-first +second):\n%s", diff)
	}
	if cmp.Equal(first, run(2)) {
		t.Error("two seeds lose the same packets")
	}
}

func TestBlackhole(t *testing.T) {
	const n = 50
	stream := traffic.Stream{Count: n, Interval: time.Millisecond, Size: 100, Wait: 200 * time.Millisecond}
	l := newLine(t, link.Spec{}, link.Spec{})
	go traffic.ServeUDP(l.b)
	tests := []struct {
		name         string
		set          func()
		received     int
		dropA, dropB uint64
	}{
		{"off", func() {}, n, 0, 0},
		{"a to b", func() { l.AB().Blackhole(true) }, 0, n, 0},
		{"b to a", func() { l.AB().Blackhole(false); l.BA().Blackhole(true) }, 0, 0, n},
		{"both", func() { l.Blackhole(true) }, 0, n, 0},
		{"off again", func() { l.Blackhole(false) }, n, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.set()
			a, b := l.AB().Counters().Drops.Blackhole, l.BA().Counters().Drops.Blackhole
			r, err := stream.Run(t.Context(), l.a)
			if err != nil {
				t.Fatal(err)
			}
			a, b = l.AB().Counters().Drops.Blackhole-a, l.BA().Counters().Drops.Blackhole-b
			if r.Received != tt.received || a != tt.dropA || b != tt.dropB {
				t.Errorf("%d came back, want %d; dropped %d and %d, want %d and %d",
					r.Received, tt.received, a, b, tt.dropA, tt.dropB)
			}
		})
	}
	if out, err := l.w.Gateway.Run("ip link show fibre"); err != nil || !strings.Contains(out, ",UP,LOWER_UP") {
		t.Errorf("device is not up: %s, error %v", out, err)
	}
}

func TestDown(t *testing.T) {
	l := newLine(t, link.Spec{Delay: 50 * time.Millisecond}, link.Spec{})
	l.send(t, 10)
	if _, err := l.w.WAN("fibre").Router.Run("ip link set gw down"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Second); l.counters().Drops.Down < 10 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if c := l.counters(); c.Drops.Down != 10 {
		t.Errorf("packets to a device that is down: %+v", c)
	}
}

func TestOrder(t *testing.T) {
	tests := []struct {
		name    string
		reorder bool
	}{{"kept", false}, {"not kept", true}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			delay, jitter := 10*time.Millisecond, 30*time.Millisecond
			l := newLine(t, link.Spec{Delay: delay, Jitter: jitter, Reorder: tt.reorder}, link.Spec{})
			go traffic.ServeUDP(l.b)
			r, err := traffic.Stream{Count: 500, Interval: 2 * time.Millisecond, Size: 100}.Run(t.Context(), l.a)
			if err != nil || r.Received != 500 {
				t.Fatalf("%v, error %v", r, err)
			}
			if got := r.Reordered > 0; got != tt.reorder {
				t.Errorf("%d packets out of order", r.Reordered)
			}
			if r.RTT.Min < delay || r.RTT.P90 > delay+jitter+time.Millisecond || r.RTT.P90-r.RTT.Min < jitter/3 {
				t.Errorf("round trip takes %v, want %v to %v", r.RTT, delay, delay+jitter)
			}
		})
	}
}
