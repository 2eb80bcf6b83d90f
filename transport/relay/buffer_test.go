// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// receiveBuffer is what a socket's is, and whether the kernel leaves it so.
func receiveBuffer(t *testing.T, fd int) (size int, kept bool) {
	t.Helper()
	size, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	if err != nil {
		t.Fatal(err)
	}
	return size, lock != 0
}

// What waits behind a slow peer does not become more, and no byte of it is lost;
// when nothing waits any more the buffer is the kernel's again.
func TestBuffer(t *testing.T) {
	var p Pair
	left, right, doneC := start(t, &p)
	b := make([]byte, 64<<10)
	left.Write(b[:1])
	if _, err := right.Read(b); err != nil {
		t.Fatal(err)
	}
	for p.AToB.Load() == 0 { // counted once it is written
	}
	fd := p.ends[0].fd
	const total = 48 << 20
	go left.Write(make([]byte, total))
	rest := int64(total)
	most, kept := receiveBuffer(t, fd)
	var since time.Time // it was first seen kept
	for began := time.Now(); !kept || time.Since(since) < 500*time.Millisecond; {
		if time.Since(began) > 5*time.Second {
			t.Fatalf("%d bytes may wait, and more", most)
		}
		if _, err := io.ReadFull(right, b); err != nil {
			t.Fatal(err)
		}
		rest -= int64(len(b))
		time.Sleep(8 * time.Millisecond) // 64 Mbit/s
		size, now := receiveBuffer(t, fd)
		if kept && (!now || size > most) {
			t.Fatalf("%d bytes may wait, and then %d", most, size)
		}
		if now && !kept {
			since = time.Now()
		}
		most, kept = size, now
	}
	if _, err := io.CopyN(io.Discard, right, rest); err != nil {
		t.Fatal(err)
	}
	for fast := time.Now(); kept; most, kept = receiveBuffer(t, fd) {
		if time.Since(fast) > 5*time.Second {
			t.Fatalf("it is left at %d bytes", most)
		}
		time.Sleep(time.Millisecond)
	}
	left.CloseWrite()
	if n, err := io.Copy(io.Discard, right); n > 0 || err != nil {
		t.Errorf("%d more bytes, %v", n, err)
	}
	if n := p.AToB.Load(); n != 1+total {
		t.Errorf("%d bytes", n)
	}
	right.CloseWrite()
	if err := <-doneC; err != nil {
		t.Error(err)
	}
}
