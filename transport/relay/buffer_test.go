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

// What waits behind a slow peer becomes little, and no byte of it is sent twice;
// the peer that has become fast gets what it would have had.
func TestBuffer(t *testing.T) {
	const most = 6 << 20 // bytes of memory
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
	big := make([]byte, 12<<20)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, len(big)/2); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0); err != nil {
		t.Fatal(err)
	}
	go func() {
		for range 4 {
			left.Write(big)
		}
	}()
	slow := time.Now()
	size, kept := 0, false
	rest := int64(4 * len(big))
	for !kept || size > most {
		if time.Since(slow) > 10*time.Second {
			t.Fatalf("%d bytes may wait", size)
		}
		if _, err := io.ReadFull(right, b); err != nil {
			t.Fatal(err)
		}
		rest -= int64(len(b))
		time.Sleep(8 * time.Millisecond) // 64 Mbit/s
		size, kept = receiveBuffer(t, fd)
	}
	if _, err := io.CopyN(io.Discard, right, rest); err != nil {
		t.Fatal(err)
	}
	for fast := time.Now(); kept || size < len(big); size, kept = receiveBuffer(t, fd) {
		if time.Since(fast) > 5*time.Second {
			t.Fatalf("it is left at %d bytes (kept: %v)", size, kept)
		}
		time.Sleep(time.Millisecond)
	}
	left.CloseWrite()
	if n, err := io.Copy(io.Discard, right); n > 0 || err != nil {
		t.Errorf("%d more bytes, %v", n, err)
	}
	if n := p.AToB.Load(); n != uint64(1+4*len(big)) {
		t.Errorf("%d bytes", n)
	}
	right.CloseWrite()
	if err := <-doneC; err != nil {
		t.Error(err)
	}
}
