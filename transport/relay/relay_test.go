// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"braid/test/netns"
	"braid/transport/mptcp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect gives the two ends of a connection over loopback. The server's has the
// options that its listener is given.
func connect(t testing.TB, multipath bool, options ...func(listener int)) (client *net.TCPConn, server *mptcp.Conn) {
	t.Helper()
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, rc syscall.RawConn) error {
		return rc.Control(func(fd uintptr) {
			for _, set := range options {
				set(int(fd))
			}
		})
	}}
	lc.SetMultipathTCP(multipath)
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ml, err := mptcp.NewListener(l.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	defer ml.Close()
	var d net.Dialer
	d.SetMultipathTCP(multipath)
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ml.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn), s
}

// start relays between two connections and gives their far ends. The first
// is TCP, as from the LAN, the second MPTCP, as to the converter.
func start(t testing.TB, p *Pair, lan ...func(listener int)) (left, right *net.TCPConn, doneC <-chan error) {
	t.Helper()
	left, p.A = connect(t, false, lan...)
	right, p.B = connect(t, true)
	done := make(chan error, 1)
	go func() { done <- p.Run() }()
	return left, right, done
}

func TestBothWays(t *testing.T) {
	var p Pair
	left, right, doneC := start(t, &p)
	data := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	send := func(c *net.TCPConn, b []byte) {
		c.Write(b)
		c.CloseWrite()
	}
	go send(left, data)
	go send(right, data[:1<<20])
	gotRight, err := io.ReadAll(right)
	if err != nil || !bytes.Equal(gotRight, data) {
		t.Errorf("left to right: %d bytes, %v", len(gotRight), err)
	}
	gotLeft, err := io.ReadAll(left)
	if err != nil || !bytes.Equal(gotLeft, data[:1<<20]) {
		t.Errorf("right to left: %d bytes, %v", len(gotLeft), err)
	}
	if err := <-doneC; err != nil {
		t.Error(err)
	}
	if a, b := p.AToB.Load(), p.BToA.Load(); a != 3<<20 || b != 1<<20 {
		t.Errorf("counted %d and %d", a, b)
	}
}

// What somebody else has read of A comes first, also where it does not fit
// the buffers and B speaks before it reads.
func TestFirst(t *testing.T) {
	data := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{2}).Read(data)
	p := Pair{First: data[:7<<20]}
	left, right, doneC := start(t, &p)
	if _, err := right.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(left, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	go func() {
		left.Write(data[7<<20:])
		left.CloseWrite()
	}()
	got, err := io.ReadAll(right)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	right.CloseWrite()
	if err := <-doneC; err != nil {
		t.Error(err)
	}
	if a, b := p.AToB.Load(), p.BToA.Load(); a != 8<<20 || b != 5 {
		t.Errorf("counted %d and %d", a, b)
	}
}

func TestHalfClose(t *testing.T) {
	var p Pair
	left, right, doneC := start(t, &p)
	left.Write([]byte("request"))
	left.CloseWrite()
	if got, err := io.ReadAll(right); string(got) != "request" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	right.Write([]byte("answer"))
	right.CloseWrite()
	if got, err := io.ReadAll(left); string(got) != "answer" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if err := <-doneC; err != nil {
		t.Error(err)
	}
}

func TestReset(t *testing.T) {
	for _, name := range []string{"TCP side", "MPTCP side"} {
		t.Run(name, func(t *testing.T) {
			var p Pair
			left, right, doneC := start(t, &p)
			if name == "MPTCP side" {
				left, right = right, left
			}
			left.Write([]byte("x"))
			io.ReadFull(right, make([]byte, 1))
			netns.Reset(left)
			if _, err := right.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the other side saw %v", err)
			}
			if err := <-doneC; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// The far side reads nothing, so a write is stuck when the near side resets.
func TestResetWhileStuck(t *testing.T) {
	var p Pair
	left, right, doneC := start(t, &p)
	left.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	for {
		if _, err := left.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	netns.Reset(right)
	if err := <-doneC; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Run: %v", err)
	}
}

func TestIdle(t *testing.T) {
	p := Pair{Idle: 200 * time.Millisecond}
	left, right, doneC := start(t, &p)
	began := time.Now()
	for range 6 { // traffic one way keeps both ways
		time.Sleep(60 * time.Millisecond)
		left.Write([]byte("x"))
		io.ReadFull(right, make([]byte, 1))
	}
	last := time.Now()
	if err := <-doneC; err != ErrIdle {
		t.Errorf("Run: %v", err)
	}
	if time.Since(last) < 150*time.Millisecond || time.Since(began) < 500*time.Millisecond {
		t.Errorf("ended after %v, %v after the last byte", time.Since(began), time.Since(last))
	}
	if _, err := left.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("left saw %v", err)
	}
}

func TestIdleHalfClosed(t *testing.T) {
	p := Pair{HalfClosed: 100 * time.Millisecond}
	left, right, doneC := start(t, &p)
	left.CloseWrite()
	if err := <-doneC; err != ErrIdle {
		t.Errorf("Run: %v", err)
	}
	for { // the reset may be on its way still
		if _, err := right.Write([]byte("x")); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("right was not reset")
		} else if err != nil {
			break
		}
	}
}

// A peer that has stopped to read, half-closed or not, is given up too, though
// the other would send for ever.
func TestIdleWhileStuck(t *testing.T) {
	for name, half := range map[string]bool{"open": false, "half-closed": true} {
		p := Pair{Idle: 300 * time.Millisecond, HalfClosed: 300 * time.Millisecond}
		if half {
			p.Idle = time.Hour // counted until the end of the stream, while the write waits
		}
		left, right, doneC := start(t, &p)
		go func() {
			for {
				if _, err := right.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}()
		for p.BToA.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		if half {
			left.CloseWrite()
		}
		select {
		case err := <-doneC:
			if err != ErrIdle {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the pair is still there", name)
		}
	}
}

// Room that nobody tells of is found all the same.
func TestSilentRoom(t *testing.T) {
	var p Pair
	left, right, doneC := start(t, &p)
	const size = 32 << 20
	go func() {
		left.Write(make([]byte, size))
		left.CloseWrite()
	}()
	stuck := func() bool {
		before := p.AToB.Load()
		time.Sleep(100 * time.Millisecond)
		return before > 0 && p.AToB.Load() == before
	}
	for !stuck() {
	}
	// The relay is not told of room at B any more.
	quiet := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: p.id, Pad: 1}
	if err := unix.EpollCtl(p.loop.epoll, unix.EPOLL_CTL_MOD, p.ends[1].fd, &quiet); err != nil {
		t.Fatal(err)
	}
	right.SetDeadline(time.Now().Add(time.Minute))
	read := 0
	for b := make([]byte, 4<<20); read < 4<<20; {
		n, err := right.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		read += n
	}
	before := p.AToB.Load()
	for begin := time.Now(); p.AToB.Load() == before; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Fatal("nothing is written although there is room")
		}
	}
	left.SetLinger(0)
	left.Close()
	right.Close()
	<-doneC
}

// A pair that nothing else wakes is ended at once by who resets it, however many
// have been before.
func TestManyAborts(t *testing.T) {
	for i := range 300 * min(runtime.GOMAXPROCS(0), mostLoops) {
		var p Pair
		left, right, doneC := start(t, &p)
		left.Write([]byte("x"))
		io.ReadFull(right, make([]byte, 1))
		p.A.Reset()
		select {
		case <-doneC:
		case <-time.After(5 * time.Second):
			t.Fatalf("number %d goes on", i)
		}
		left.Close()
		right.Close()
	}
}

// owner paces a pair, unless the rate is 0, in bytes a second, and tells of its end.
type owner struct {
	rate    int
	closedC chan<- error
}

func (o owner) Pace(n int) time.Duration {
	if o.rate == 0 {
		return 0
	}
	return time.Duration(n) * time.Second / time.Duration(o.rate)
}

func (o owner) Closing() {}

func (o owner) Closed(err error) {
	if o.closedC != nil {
		o.closedC <- err
	}
}

// What is paced arrives whole, and as slowly as it is meant to.
func TestPace(t *testing.T) {
	const rate, total = 1 << 20, 1 << 19 // bytes a second, bytes
	p := Pair{Owner: owner{rate: rate}}
	left, right, doneC := start(t, &p)
	began := time.Now()
	go func() {
		left.Write(make([]byte, total))
		left.CloseWrite()
	}()
	n, err := io.Copy(io.Discard, right)
	if took := time.Since(began); n != total || err != nil || took < total*time.Second/rate*9/10 {
		t.Errorf("%d bytes in %v, %v", n, took, err)
	}
	right.CloseWrite()
	if err := <-doneC; err != nil {
		t.Error(err)
	}
}

// An idle pair keeps no buffer.
func TestIdleMemory(t *testing.T) {
	const pairs = 500
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	ps := make([]Pair, pairs)
	ends := make([][2]*net.TCPConn, pairs)
	for i := range ps {
		ends[i][0], ps[i].A = connect(t, false)
		ends[i][1], ps[i].B = connect(t, false)
	}
	before := measure()
	doneC := make(chan error, pairs)
	for i := range ps {
		ps[i].Owner = owner{closedC: doneC}
		ps[i].Start()
		ends[i][0].Write(make([]byte, 100_000))
		io.ReadFull(ends[i][1], make([]byte, 100_000))
	}
	if per := int(measure()-before) / pairs; per > 12<<10 {
		t.Errorf("%d bytes a pair", per)
	}
	for i := range ends {
		ends[i][0].Close()
		ends[i][1].Close()
	}
	for range ps {
		<-doneC
	}
}

func BenchmarkRelay(b *testing.B) {
	var p Pair
	left, right, doneC := start(b, &p)
	left.SetDeadline(time.Time{})
	right.SetDeadline(time.Time{})
	chunk := make([]byte, 1<<20)
	b.SetBytes(int64(len(chunk)))
	b.ResetTimer()
	go func() {
		for range b.N {
			left.Write(chunk)
		}
		left.CloseWrite()
	}()
	io.Copy(io.Discard, right)
	b.StopTimer()
	right.CloseWrite()
	<-doneC
}

// A pair's far end is kept mapped when no byte has moved for a minute, not before.
func TestKeepMapped(t *testing.T) {
	p := Pair{KeepMapped: true, loop: &loop{now: time.Hour}}
	_, p.B = connect(t, false)
	fd, err := p.B.Detach(&p)
	if err != nil {
		t.Fatal(err)
	}
	defer p.B.CloseDetached(false)
	kept := func() int {
		t.Helper()
		on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		if err != nil {
			t.Fatal(err)
		}
		return on
	}
	p.last = p.loop.now - quiet + 20*time.Second
	if d := p.keep(); d != 20*time.Second || kept() != 0 {
		t.Errorf("to be kept in %v, is %d", d, kept())
	}
	p.loop.now += 20 * time.Second
	if d := p.keep(); d < time.Hour || kept() != 1 {
		t.Errorf("looked at again in %v, kept %d", d, kept())
	}
	if d := (&Pair{B: p.B, loop: p.loop}).keep(); d < time.Hour {
		t.Errorf("what is not to be kept is looked at in %v", d)
	}
}
