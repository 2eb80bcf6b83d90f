// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package guard_test

import (
	"context"
	"crypto/sha256"
	"io"
	"math"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/transport/guard"
	"braid/transport/journal"
	"braid/transport/mptcp"
)

// counted counts what is written.
type counted struct {
	io.Writer
	n *atomic.Uint64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n.Add(uint64(n))
	return n, err
}

// A subflow dies in the middle of a transfer, seen from the end that sends:
//
//	gateway --fibre (black hole)-- converter
//	        --lte-----------------
func TestGuard(t *testing.T) {
	for _, sender := range []string{"converter", "gateway"} {
		t.Run(sender+" sends", func(t *testing.T) { transfer(t, sender == "gateway") })
	}
}

// bonded is a connection over both lines. Its lab is closed after it.
func bonded(t *testing.T) (w *lab.World, near, far *mptcp.Conn) {
	t.Helper()
	fast, slow := link.Spec{Rate: 30e6, Delay: 10 * time.Millisecond}, link.Spec{Rate: 20e6, Delay: 20 * time.Millisecond}
	w, err := lab.New(t.Context(), lab.Options{Accesses: []lab.Access{lab.Fibre(fast, fast), lab.LTE(slow, slow)}})
	must(t, err)
	t.Cleanup(func() { w.Close() })
	if _, err := w.Gateway.Run("ip mptcp endpoint add 100.64.0.2 dev lte subflow; ip mptcp endpoint add 198.51.100.2 dev fibre subflow"); err != nil {
		t.Fatal(err)
	}
	var l *mptcp.Listener
	must(t, w.Converter.Do(func() (err error) {
		l, err = mptcp.Listen(t.Context(), netip.MustParseAddrPort("[::]:5124"))
		return err
	}))
	t.Cleanup(func() { l.Close() }) // joins need it
	acceptedC := make(chan *mptcp.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		} else {
			mptcp.NewMemory().Give(c)
		}
		acceptedC <- c
	}()
	must(t, w.Gateway.Do(func() (err error) {
		near, err = new(mptcp.Dialer).Dial(t.Context(), netip.MustParseAddr("198.51.100.2"), netip.AddrPortFrom(lab.Converter4, 5124), []byte("x"))
		return err
	}))
	t.Cleanup(func() { near.Close() })
	far = <-acceptedC
	t.Cleanup(func() { far.Close() })
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return w, near, far
}

func transfer(t *testing.T, upload bool) {
	w, near, far := bonded(t)
	from, to, node := far, near, w.Converter
	if upload {
		from, to, node = to, from, w.Gateway
	}

	var sent atomic.Uint64
	g := guard.Guard{Log: journal.New(io.Discard)}
	var ward guard.Ward
	g.Add(&ward, from, &sent)
	ctx, cancel := context.WithCancel(t.Context())
	guardedC := make(chan error, 1)
	go func() { guardedC <- node.Do(func() error { return g.Run(ctx) }) }()
	defer func() { cancel(); must(t, <-guardedC); g.Remove(&ward) }()

	const size, cutAfter = 20 << 20, 2500 * time.Millisecond
	want, got := sha256.New(), sha256.New()
	writtenC := make(chan error, 1)
	go func() {
		b := make([]byte, 64<<10)
		for i := 0; i < size; i += len(b) {
			for j := range b {
				b[j] = byte((i + j) * 0x61c88647 >> 7)
			}
			want.Write(b)
			if _, err := (counted{from, &sent}).Write(b); err != nil {
				writtenC <- err
				return
			}
		}
		writtenC <- from.CloseWrite()
	}()
	resets := node.MIB("MPTcpExtMPRstTx") + node.MIB("TcpOutRsts")
	var cut atomic.Bool
	killed := time.AfterFunc(cutAfter, func() { cut.Store(true); w.Link("fibre").Blackhole(true) })
	defer killed.Stop()
	given := make(chan time.Duration, 1)
	go func() {
		start := time.Now()
		for g.Destroyed.Load() == 0 && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		given <- time.Since(start) - cutAfter
	}()
	// The least of a second: there is more when something is late.
	began, bound := time.Now(), math.MaxInt
	to.SetReadDeadline(time.Now().Add(30 * time.Second))
	n, err := io.Copy(got, io.TeeReader(to, writerFunc(func([]byte) {
		if b, err := from.SendBuffer(); err == nil && !cut.Load() && time.Since(began) > cutAfter-time.Second {
			bound = min(bound, b)
		}
	})))
	if err != nil || n != size {
		t.Fatalf("received %d of %d bytes: %v; %d subflows given up", n, size, err, g.Destroyed.Load())
	}
	must(t, <-writtenC)
	if string(want.Sum(nil)) != string(got.Sum(nil)) {
		t.Error("received something else than was sent")
	}
	if d := <-given; d < 0 || d > 4*guard.Stall {
		t.Errorf("given up %v after the black hole", d)
	}
	if n := g.Destroyed.Load(); n != 1 {
		t.Errorf("%d subflows given up", n)
	}
	if bound < 128<<10 || bound > 2<<20 {
		t.Errorf("send buffer %d", bound)
	}
	if now := node.MIB("MPTcpExtMPRstTx") + node.MIB("TcpOutRsts"); now == resets {
		t.Error("no reset was sent")
	}
	// The first subflow stays in the list, closed.
	flows, err := from.Subflows()
	if err == nil {
		for _, f := range flows {
			if f.State == mptcp.StateEstablished && f.Local.Addr() == netip.MustParseAddr("198.51.100.2") {
				t.Errorf("%v to %v lives", f.Local, f.Remote)
			}
		}
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
