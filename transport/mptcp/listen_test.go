// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWaiting(t *testing.T) {
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for want := range 3 {
		if n, err := Waiting(f); n != want || err != nil {
			t.Errorf("%d wait, %v, want %d", n, err, want)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
}

// What a connection says at once, and what has come by then, waits for nobody: the
// runtime's poller need not have it, until there is something to wait for. It gets
// its listener's options.
func TestAccept(t *testing.T) {
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, mptcp := range []bool{true, false} {
		d := Dialer{TCP: !mptcp}
		c, err := d.Dial(t.Context(), netip.Addr{}, netip.MustParseAddrPort(l.Addr().String()), []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		a, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if a.MPTCP != mptcp || a.Remote != c.Local || a.Local != c.Remote {
			t.Errorf("accepted %+v of %+v", a, c)
		}
		err = a.control(func(fd int) error {
			nodelay, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
			if nodelay != 1 {
				t.Errorf("MPTCP %v: TCP_NODELAY is %d", mptcp, nodelay)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		b := make([]byte, 10)
		a.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := io.ReadFull(a, b[:5])
		if string(b[:n]) != "hello" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		if err := a.WaitEstablished(t.Context(), 5*time.Second); err != nil {
			t.Error(err)
		}
		if _, err := a.Write([]byte("who is it?")); err != nil {
			t.Error(err)
		}
		a.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := a.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) || !a.waits() {
			t.Errorf("with nothing to be read: %v", err)
		}
		a.SetReadDeadline(time.Time{})
		go c.Write([]byte("me"))
		if n, err := a.Read(b); string(b[:n]) != "me" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		a.Close()
		if _, err := a.Read(b); err == nil {
			t.Error("a closed connection is read")
		}
		if _, err := a.Write(b); err == nil {
			t.Error("a closed connection is written")
		}
	}
	doneC := make(chan error)
	go func() {
		_, err := l.Accept()
		doneC <- err
	}()
	l.Close()
	if err := <-doneC; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener: %v", err)
	}
}

// nobody aborts nothing.
type nobody struct{}

func (nobody) Abort() {}

// Two that have not waited yet are detached as they are, and closed once.
func TestDetachUnwaited(t *testing.T) {
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, reset := range []bool{false, true} {
		c, err := new(Dialer).Dial(t.Context(), netip.Addr{}, netip.MustParseAddrPort(l.Addr().String()), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		a, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		had := a.fd
		fd, err := a.Detach(nobody{})
		if err != nil || fd != had {
			t.Fatalf("descriptor %d becomes %d, %v", had, fd, err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		a.CloseDetached(reset)
		if err := a.control(func(int) error { return nil }); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) == reset {
			t.Errorf("reset %v: the peer sees %v", reset, err)
		}
	}
}
