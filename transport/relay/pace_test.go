// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"errors"
	"io"
	"runtime"
	"testing"
	"time"
)

// What comes packet by packet at the rate of a line is read by the tick, and not
// by the packet; a keystroke beside it is read at once, and so is the end.
func TestBulk(t *testing.T) {
	const packets, size, every = 4000, 1448, 100 * time.Microsecond
	var bulk, keys Pair
	left, right, doneC := start(t, &bulk)
	near, far, keysC := start(t, &keys)
	began := time.Now()
	go func() {
		packet := make([]byte, size)
		for i := range packets {
			for time.Since(began) < time.Duration(i)*every {
				runtime.Gosched()
			}
			right.Write(packet)
		}
		right.CloseWrite()
	}()
	const strokes = 50
	go func() {
		b := make([]byte, 1)
		for range strokes {
			near.Write(b)
			if _, err := io.ReadFull(far, b); err != nil {
				t.Error(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		near.Close()
		far.Close()
	}()
	n, err := io.Copy(io.Discard, left)
	took := time.Since(began)
	left.Close()
	if err := errors.Join(err, <-doneC, <-keysC); err != nil || n != packets*size {
		t.Fatalf("%d bytes, %v", n, err)
	}
	// At the begin of a span, and where the mark is reached, it is one more.
	most := 2*int(took/bulkTick) + int(n)/lowMark + int(2*span/every)
	if got := bulk.flows[1].reads; got > most || most >= packets && took < packets*every*2 {
		t.Errorf("%d reads for %d packets in %v, want %d at most", got, packets, took, most)
	}
	// One for each, and one to find that there is no more.
	if got := keys.flows[0].reads; got < strokes {
		t.Errorf("%d reads for %d strokes", got, strokes)
	}
	if keys.flows[0].bulk {
		t.Error("keystrokes wait for the tick")
	}
}
