// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var table = crc64.MakeTable(crc64.ECMA)

// flood writes noise until stop is closed or most bytes are written, then ends
// the stream. It returns how many bytes and their sum.
func flood(c *net.TCPConn, most int, stop <-chan struct{}) (n int, sum uint64, err error) {
	noise := rand.NewChaCha8([32]byte{byte(most)})
	b := make([]byte, 100_000) // which fits no page, block or pipe
	for n < most {
		select {
		case <-stop:
			return n, sum, c.CloseWrite()
		default:
		}
		noise.Read(b)
		m, err := c.Write(b)
		n, sum = n+m, crc64.Update(sum, table, b[:m])
		if err != nil {
			return n, sum, err
		}
	}
	return n, sum, c.CloseWrite()
}

// soak reads a stream to its end; pause, between reads.
func soak(c *net.TCPConn, pause func()) (n int, sum uint64, err error) {
	b := make([]byte, 70_000)
	for {
		m, err := c.Read(b)
		n, sum = n+m, crc64.Update(sum, table, b[:m])
		switch {
		case err == io.EOF:
			return n, sum, nil
		case err != nil:
			return n, sum, err
		}
		pause()
	}
}

// patient is for what takes its time on a busy machine.
func patient(conns ...*net.TCPConn) {
	for _, c := range conns {
		c.SetDeadline(time.Now().Add(2 * time.Minute))
	}
}

// What comes by gigabits over TCP goes through pipes, also to somebody who reads in
// fits, and arrives whole, as does what comes the other way; pipes are given back.
func TestSplice(t *testing.T) {
	for name, pause := range map[string]func(){
		"greedy": func() {},
		"fits":   fits(),
	} {
		t.Run(name, func(t *testing.T) {
			const most = 64 << 20
			var p Pair
			left, right, doneC := start(t, &p)
			patient(left, right)
			var all sync.WaitGroup
			var sums [4]uint64
			errs := make([]error, 4)
			for i, do := range []func() (int, uint64, error){
				func() (int, uint64, error) { return flood(left, most, nil) },
				func() (int, uint64, error) { return soak(right, pause) },
				func() (int, uint64, error) { return flood(right, most, nil) },
				func() (int, uint64, error) { return soak(left, pause) },
			} {
				all.Go(func() { _, sums[i], errs[i] = do() })
			}
			all.Wait()
			if err := errors.Join(append(errs, <-doneC)...); err != nil {
				t.Fatal(err)
			}
			if sums[0] != sums[1] || sums[2] != sums[3] {
				t.Error("something else arrived")
			}
			for i, n := range []uint64{p.AToB.Load(), p.BToA.Load()} {
				if n < most {
					t.Errorf("counted %d bytes of %d", n, most)
				}
				f := &p.flows[i]
				if least := []int{most / 2, 0}[i]; f.piped < least || least == 0 && f.piped > 0 {
					t.Errorf("of %d bytes %d went through a pipe, want %d", n, f.piped, least)
				}
				if f.pipe != nil {
					t.Error("a pipe is kept")
				}
			}
		})
	}
}

// fits is a reader that stops now and then.
func fits() func() {
	var mu sync.Mutex
	n := 0
	return func() {
		mu.Lock()
		n++
		stop := n%200 == 0
		mu.Unlock()
		if stop {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// Those whose peer has stopped to read leave their pipes to others, and lose
// nothing.
func TestStuckPipes(t *testing.T) {
	type side struct {
		Pair
		left, right *net.TCPConn
		doneC       <-chan error
		n, got      int
		sum, gotSum uint64
		err         error
	}
	stuckOnes := make([]side, (mostPipes+2)*min(runtime.GOMAXPROCS(0), mostLoops))
	stop := make(chan struct{})
	var sending sync.WaitGroup
	for i := range stuckOnes {
		s := &stuckOnes[i]
		s.left, s.right, s.doneC = start(t, &s.Pair)
		patient(s.left, s.right)
		sending.Go(func() { s.n, s.sum, s.err = flood(s.left, 1<<30, stop) })
	}
	var before uint64
	for still := 0; still < 3; time.Sleep(2 * stuck / 5) { // until nothing moves
		var now uint64
		for i := range stuckOnes {
			now += stuckOnes[i].AToB.Load()
		}
		if still++; now != before {
			before, still = now, 0
		}
	}
	var p Pair
	left, right, doneC := start(t, &p)
	patient(left, right)
	go flood(left, 64<<20, nil)
	if _, _, err := soak(right, func() {}); err != nil {
		t.Error(err)
	}
	right.CloseWrite()
	if err := <-doneC; err != nil {
		t.Error(err)
	}
	if p.flows[0].piped == 0 {
		t.Error("nobody has left a pipe")
	}
	close(stop)
	for i := range stuckOnes {
		s := &stuckOnes[i]
		n, sum, err := soak(s.right, func() {})
		if err != nil {
			t.Fatal(err)
		}
		s.right.CloseWrite()
		if err := <-s.doneC; err != nil {
			t.Error(err)
		}
		s.got, s.gotSum = n, sum
	}
	sending.Wait()
	for i := range stuckOnes {
		if s := &stuckOnes[i]; s.err != nil || s.n != s.got || s.sum != s.gotSum {
			t.Errorf("%d of %d bytes arrived, %v", s.got, s.n, s.err)
		}
	}
}

// A byte of urgent data stays in its place, also amid what goes through a pipe.
func TestUrgentInBulk(t *testing.T) {
	const chunk, urgent = 1 << 20, 'u'
	var p Pair
	left, right, doneC := start(t, &p, inline)
	patient(left, right)
	before, after := make([]byte, 64*chunk), make([]byte, 64*chunk)
	go func() {
		left.Write(before)
		rc, _ := left.SyscallConn()
		rc.Write(func(fd uintptr) bool {
			return unix.Sendto(int(fd), []byte{urgent}, unix.MSG_OOB|unix.MSG_DONTWAIT, nil) != unix.EAGAIN
		})
		left.Write(after)
		left.CloseWrite()
	}()
	got, err := io.ReadAll(right)
	right.CloseWrite()
	if err := errors.Join(err, <-doneC); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(before)+1+len(after) || got[len(before)] != urgent {
		t.Errorf("%d bytes, of which the one in question is %v", len(got), fmt.Sprintf("%q", got[min(len(before), len(got)-1)]))
	}
	if p.flows[0].piped < chunk {
		t.Errorf("%d bytes went through a pipe", p.flows[0].piped)
	}
}

// inline is what a listener for the LAN has set.
func inline(listener int) { _ = unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) }

// A splice that a signal cuts short, as those by which the runtime preempts, is
// gone on with: TCP, which has room, would never tell of any.
func TestSpliceCutShort(t *testing.T) {
	const most = 256 << 20
	var p Pair
	var left, right *net.TCPConn
	left, p.A = connect(t, false)
	right, p.B = connect(t, false)
	patient(left, right)
	done := make(chan error, 1)
	go func() { done <- p.Run() }()
	stop := make(chan struct{})
	var preempting sync.WaitGroup
	preempting.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	go func() {
		b := make([]byte, 1<<20)
		for range most / len(b) {
			left.Write(b)
		}
		left.CloseWrite()
	}()
	var longest time.Duration
	last := time.Now()
	n, _, err := soak(right, func() {
		now := time.Now()
		longest, last = max(longest, now.Sub(last)), now
	})
	close(stop)
	preempting.Wait()
	if n != most || err != nil || longest >= retryWrite*9/10 {
		t.Errorf("%d bytes, %v, stood still for %v", n, err, longest)
	}
	right.CloseWrite()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if p.flows[0].piped == 0 {
		t.Error("nothing was spliced")
	}
}
