// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	"errors"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"braid/onpath/lend"
	"braid/onpath/lender"
	"braid/transport/journal"
)

// What cannot be opened, for want of files here and of rights elsewhere, is an error.
func TestCannotOpen(t *testing.T) {
	var packets, dropped atomic.Uint64
	prefix := netip.MustParsePrefix("2001:db8:64::/96")
	full(t)
	if _, err := openJudge(&packets); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("judge: %v", err)
	}
	if _, err := openEdge(journal.New(os.Stderr), prefix, &packets, &dropped); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("edge: %v", err)
	}
	_, err := lender.Open(lender.Settings{Table: table, Name: "lent", Group: groupJudge, Mark: markOurs, Size: 16,
		Offer: func(*lend.Connection) []lend.Address { return nil }, Event: func(lend.Seen) {}})
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("lender: %v", err)
	}
}

// full has the process open no file more, until the test ends.
func full(t *testing.T) {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	next := f.Fd()
	f.Close()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(next), Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) })
}
