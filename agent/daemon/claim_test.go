// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"braid/test/bus"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

func TestClaim(t *testing.T) {
	if claimed() {
		t.Fatal("claimed by nobody")
	}
	first, err := stake()
	if err != nil {
		t.Fatal(err)
	}
	if !claimed() {
		t.Error("not claimed")
	}
	if _, err := stake(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second claim: %v", err)
	}
	_, err = stakeWithin(t.Context(), 0)
	if want := fmt.Sprintf("another agent runs in this network namespace (pid %d)", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a second claim: %v, want %s", err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := stakeWithin(ctx, bus.Patience); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a claim no longer: %v", err)
	}

	secondC := make(chan *claim, 1)
	go func() {
		second, err := stakeWithin(t.Context(), bus.Patience)
		if err != nil {
			t.Error(err)
		}
		secondC <- second
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := bus.Receive(t, "second claim", secondC)
	if !claimed() {
		t.Error("not claimed")
	}
	if err := second.Close(); err != nil || claimed() {
		t.Errorf("claimed for ever: %v", err)
	}
}

// Where nothing is open, the claim is kept.
func TestNothingToDrain(t *testing.T) {
	c, err := stake()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	ours, err := New(Options{}, nil).drain(t.Context(), c, func() { t.Error("a successor") })
	if ours != c || err != nil || time.Since(began) > time.Second {
		t.Errorf("%v, %v after %v", ours, err, time.Since(began))
	}
}
