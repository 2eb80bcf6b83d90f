// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// server starts a Server on the loopback and returns how to reach it.
func server(t *testing.T, mptcp bool) Dial {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(mptcp)
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(l)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing server: %v", err)
		}
	})
	var d net.Dialer
	d.SetMultipathTCP(mptcp)
	return func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", s.Addr().String())
	}
}

// through makes d's connections pass through wrap.
func (d Dial) through(wrap func(*net.TCPConn) net.Conn) Dial {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := d(ctx)
		if err != nil {
			return nil, err
		}
		return wrap(c.(*net.TCPConn)), nil
	}
}

// A spoiler changes the byte at an offset of what is read or written, header included.
type spoiler struct {
	*net.TCPConn
	readAt, writeAt int64
	read, written   int64
}

func (s *spoiler) Read(b []byte) (int, error) {
	n, err := s.TCPConn.Read(b)
	if i := s.readAt - s.read; i >= 0 && i < int64(n) {
		b[i] ^= 1
	}
	s.read += int64(n)
	return n, err
}

func (s *spoiler) Write(b []byte) (int, error) {
	b = append([]byte(nil), b...)
	if i := s.writeAt - s.written; i >= 0 && i < int64(len(b)) {
		b[i] ^= 1
	}
	n, err := s.TCPConn.Write(b)
	s.written += int64(n)
	return n, err
}

func TestTransfer(t *testing.T) {
	for _, mptcp := range []bool{false, true} {
		d := server(t, mptcp)
		for _, op := range []Op{Download, Upload, Echo} {
			for _, n := range []int64{0, 1, 65_521, 100_000_001} {
				r, err := d.Do(t.Context(), op, Request{Bytes: n})
				if err != nil || r.Bytes != n || r.Mismatch != -1 {
					t.Errorf("op %d of %d bytes, mptcp %v: %v, error %v", op, n, mptcp, r, err)
				}
				if n > 0 && (r.Connect <= 0 || r.FirstByte <= 0 || r.Duration < r.FirstByte || r.Stall > r.Duration) {
					t.Errorf("op %d of %d bytes: times %+v", op, n, r)
				}
			}
		}
	}
}

func TestMismatch(t *testing.T) {
	d := server(t, false)
	const at = 777_777
	for _, op := range []Op{Download, Upload, Echo} {
		spoilt := d.through(func(c *net.TCPConn) net.Conn {
			if op == Download {
				return &spoiler{TCPConn: c, readAt: at, writeAt: -1}
			}
			return &spoiler{TCPConn: c, readAt: -1, writeAt: headerLen + at}
		})
		r, err := spoilt.Do(t.Context(), op, Request{Bytes: 2_000_000})
		if r.Mismatch != at || r.Bytes != 2_000_000 || err == nil || !strings.Contains(err.Error(), "wrong byte at offset 777777") {
			t.Errorf("op %d: %v, error %v", op, r, err)
		}
	}
}

// TestInstead loses bytes, and repeats some.
func TestInstead(t *testing.T) {
	here := position{phase: 7, offset: 1 << 30}
	for at, want := range map[int64]string{
		1<<30 + 1448: "what is 1448 bytes later, or 64073 earlier",
		1<<30 - 4096: "what is 61425 bytes later, or 4096 earlier",
	} {
		if got := here.instead(position{phase: 7, offset: at}.rest(100)); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	if got := here.instead(make([]byte, 100)); got != "00000000000000000000000000000000" {
		t.Errorf("%q of no pattern", got)
	}
}

// TestForeign lets a connection receive what belongs to another.
func TestForeign(t *testing.T) {
	b := make([]byte, 1000)
	copy(b, position{phase: 1}.rest(1000))
	if i := (position{phase: 2}).check(b); i < 0 {
		t.Error("the data of another connection passes")
	}
	if i := (position{phase: 1, offset: 256 << 10}).check(b); i < 0 {
		t.Error("data that is a buffer too early passes")
	}
}

func TestFor(t *testing.T) {
	d := server(t, false)
	for _, op := range []Op{Download, Upload, Echo} {
		r, err := d.Do(t.Context(), op, Request{Bytes: Endless, For: 200 * time.Millisecond})
		if err != nil || r.Bytes == 0 || r.Duration < 200*time.Millisecond || r.Duration > 2*time.Second {
			t.Errorf("op %d: %v, error %v", op, r, err)
		}
	}
}

func TestCancel(t *testing.T) {
	d := server(t, false)
	for _, op := range []Op{Download, Upload, Echo} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		r, err := d.Do(ctx, op, Request{Bytes: Endless})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("op %d: %v, error %v", op, r, err)
		}
	}
}

// TestStall serves a download by hand, with a pause, and then breaks it off.
func TestStall(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		h, err := readHeader(c)
		if err != nil {
			return
		}
		p := position{phase: h.phase}
		for _, pause := range []time.Duration{20, 50, 200, 30} {
			time.Sleep(pause * time.Millisecond)
			c.Write(p.rest(1000))
			p.offset += 1000
		}
	}()
	d := Dial(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	})
	var live atomic.Int64
	r, err := d.Do(t.Context(), Download, Request{
		Bytes: 5000, Interval: 50 * time.Millisecond, Live: func(i Interval) { live.Add(i.Bytes) },
	})
	if !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "reading at 4000 of 5000") {
		t.Errorf("error is %v", err)
	}
	near := func(what string, got, want time.Duration) {
		if got < want-time.Millisecond || got > want+30*time.Millisecond {
			t.Errorf("%s is %v, want about %v", what, got, want)
		}
	}
	near("first byte", r.FirstByte, 20*time.Millisecond)
	near("stall", r.Stall, 200*time.Millisecond)
	near("start of the stall", r.StallAt, 70*time.Millisecond)
	near("duration", r.Duration, 300*time.Millisecond)
	var sum int64
	var to time.Duration
	for _, i := range r.Intervals {
		if i.From < to {
			t.Errorf("interval %+v begins before the end of the last, %v", i, to)
		}
		sum, to = sum+i.Bytes, i.To
	}
	if sum != 4000 || live.Load() != 4000 || len(r.Intervals) < 6 {
		t.Errorf("%d intervals, %d bytes in them, %d live, want 4000", len(r.Intervals), sum, live.Load())
	}
}

// TestStallFrom has a longer stall before the moment from which stalls count, and
// tells the server of it.
func TestStallFrom(t *testing.T) {
	h := newHeader(Upload, Request{StallFrom: 150 * time.Millisecond})
	var wire bytes.Buffer
	if err := h.write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := readHeader(&wire)
	if err != nil || got.stallFrom != h.stallFrom {
		t.Fatalf("the header tells of %v, %v", got.stallFrom, err)
	}
	m := newMeter(time.Now(), Request{StallFrom: got.stallFrom})
	for _, pause := range []time.Duration{0, 130, 60, 20} {
		time.Sleep(pause * time.Millisecond)
		m.add(1)
	}
	if r := m.end(false); r.Stall < 60*time.Millisecond || r.Stall >= 130*time.Millisecond {
		t.Errorf("stall is %v, want that of 60 ms", r.Stall)
	}
}

func TestIdentify(t *testing.T) {
	for _, mptcp := range []bool{false, true} {
		var local netip.AddrPort
		d := server(t, mptcp).through(func(c *net.TCPConn) net.Conn {
			local = c.LocalAddr().(*net.TCPAddr).AddrPort()
			return c
		})
		p, err := d.Identify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if p.Remote != local || p.MPTCP != mptcp {
			t.Errorf("seen as %+v, want %v, mptcp %v", p, local, mptcp)
		}
	}
}

func TestServerRefuses(t *testing.T) {
	d := server(t, false)
	for _, junk := range []string{"GET / HTTP/1.1\r\nHost: www.braid.example\r\n\r\n", strings.Repeat("\xff", headerLen)} {
		c, err := d(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, junk); err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(c); len(b) > 0 {
			t.Errorf("%q is answered by %q", junk, b)
		}
		c.Close()
	}
}

func TestLoad(t *testing.T) {
	d := server(t, false)
	var dials atomic.Int64
	third := Dial(func(ctx context.Context) (net.Conn, error) {
		if dials.Add(1)%3 == 0 {
			return nil, errors.New("the third")
		}
		return d(ctx)
	})
	r, err := third.Run(t.Context(), Load{Clients: 4, Bytes: 1000, For: 300 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "the third") {
		t.Errorf("error is %v", err)
	}
	if n := dials.Load(); int64(r.Failures) != n/3 || int64(r.Connections) != n-n/3 {
		t.Errorf("%d connections, %d failures of %d", r.Connections, r.Failures, n)
	}
	l := r.Latency
	if !(0 < l.Min && l.Min <= l.P50 && l.P50 <= l.P90 && l.P90 <= l.P99 && l.P99 <= l.Max) || r.PerSecond() <= 0 {
		t.Errorf("report %v", r)
	}
}

func TestLatency(t *testing.T) {
	var times []time.Duration
	for i := 101; i > 0; i-- {
		times = append(times, time.Duration(i))
	}
	want := Latency{Min: 1, Mean: 51, P50: 51, P90: 91, P99: 100, Max: 101}
	if diff := cmp.Diff(want, newLatency(times)); diff != "" {
		t.Errorf("latency of 1 to 101 (-want +got):\n%s", diff)
	}
}

// TestStream answers some packets not, some twice, some changed, and some late.
func TestStream(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go func() {
		buf := make([]byte, 2048)
		var held []byte
		for i := 0; ; i++ {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			switch i {
			case 3, 4: // lost
				continue
			case 10: // twice
				pc.WriteTo(buf[:n], from)
			case 20: // behind the next
				held = append([]byte(nil), buf[:n]...)
				continue
			case 21:
				pc.WriteTo(buf[:n], from)
				pc.WriteTo(held, from)
				continue
			case 30:
				buf[n-1] ^= 1
			}
			pc.WriteTo(buf[:n], from)
		}
	}()
	c, err := net.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := Stream{Count: 50, Interval: 10 * time.Millisecond, Size: 200, Wait: 100 * time.Millisecond}
	r, err := s.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if r.Gap < 29*time.Millisecond || r.GapAt < 19*time.Millisecond || r.GapAt > 40*time.Millisecond {
		t.Errorf("gap of %v at %v, want 30 ms at 20 ms", r.Gap, r.GapAt)
	}
	if r.RTT.Min <= 0 || r.RTT.Max < 8*time.Millisecond || r.Loss() != 0.06 {
		t.Errorf("round trips %v, loss %v", r.RTT, r.Loss())
	}
	r.Gap, r.GapAt, r.RTT = 0, 0, Latency{}
	want := StreamReport{Sent: 50, Received: 47, Reordered: 1, Duplicate: 1, Damaged: 1}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestServeUDP(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	doneC := make(chan error)
	go func() { doneC <- ServeUDP(pc) }()
	c, err := net.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := Stream{Count: 20, Interval: time.Millisecond, Size: 1200}.Run(t.Context(), c)
	if err != nil || r.Received != 20 || r.Loss() != 0 || r.Damaged != 0 {
		t.Errorf("%v, error %v", r, err)
	}
	if _, err := (Stream{Count: 1, Size: 19}).Run(t.Context(), c); err == nil {
		t.Error("a packet without room for its header is sent")
	}
	pc.Close()
	if err := <-doneC; err != nil {
		t.Errorf("end of the server: %v", err)
	}
}

func BenchmarkCheck(b *testing.B) {
	data := append([]byte(nil), position{phase: 7}.rest(chunk)...)
	b.SetBytes(chunk)
	for b.Loop() {
		if (position{phase: 7}).check(data) >= 0 {
			b.Fatal("differs")
		}
	}
}
