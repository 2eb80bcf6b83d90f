// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package tick_test

import (
	"context"
	"testing"
	"time"

	"braid/transport/tick"
)

func TestTicker(t *testing.T) {
	ticker, err := tick.NewTicker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer ticker.Close()
	for _, interval := range []time.Duration{50 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond} {
		began := time.Now()
		ticker.Set(interval)
		for range 3 {
			if err := ticker.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 3*interval {
			t.Errorf("three ticks of %v within %v", interval, took)
		}
	}
	// A tick that has been is not waited for, however many there were.
	const interval = 200 * time.Millisecond
	ticker.Set(interval)
	if err := ticker.Wait(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2*interval + interval/2)
	began := time.Now()
	for _, atLeast := range []time.Duration{0, interval / 4} {
		if err := ticker.Wait(); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited < atLeast {
			t.Errorf("waited %v, want %v", waited, atLeast)
		}
	}
}

func TestEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ticker, err := tick.NewTicker(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer ticker.Close()
	time.AfterFunc(20*time.Millisecond, cancel)
	if ticker.Wait() == nil {
		t.Error("a tick of a ticker that has ended")
	}
}

func TestWake(t *testing.T) {
	ticker, err := tick.NewTicker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer ticker.Close()
	const interval = 50 * time.Millisecond
	for range 3 {
		ticker.Set(0)
		time.AfterFunc(20*time.Millisecond, ticker.Wake)
		if err := ticker.Wait(); err != nil {
			t.Fatal(err)
		}
		// It ticks again as before once it is told to, be it at the interval that it had.
		ticker.Set(interval)
		for range 2 {
			if err := ticker.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		ticker.Wake()
		ticker.Set(interval)
		if err := ticker.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}
