// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package sysctl_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"braid/agent/kernel/sysctl"
	"braid/agent/plan"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

const (
	fastopen = "net/ipv4/tcp_fastopen"
	rmem     = "net/ipv4/tcp_rmem"
	rpFilter = "net/ipv4/conf/eth1/rp_filter"
)

func ip(t *testing.T, args string) {
	t.Helper()
	if b, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, b)
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func put(t *testing.T, path, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// check compares what the kernel has with pairs of path and value.
func check(t *testing.T, pairs ...string) {
	t.Helper()
	for ; len(pairs) > 1; pairs = pairs[2:] {
		if got := get(t, pairs[0]); got != pairs[1] {
			t.Errorf("%s is %q, want %q", pairs[0], got, pairs[1])
		}
	}
}

// start gives a namespace in its first state and the name of a file that is
// not there yet.
func start(t *testing.T) string {
	t.Helper()
	put(t, fastopen, "1")
	put(t, rmem, "4096 131072 6291456")
	ip(t, "link add eth1 type veth peer name peer1")
	put(t, rpFilter, "1")
	t.Cleanup(func() { exec.Command("ip", "link", "del", "eth1").Run() })
	return filepath.Join(t.TempDir(), "run", "originals")
}

func open(t *testing.T, file string) *sysctl.Keeper {
	t.Helper()
	k, err := sysctl.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func apply(t *testing.T, k *sysctl.Keeper, want ...plan.Sysctl) {
	t.Helper()
	if err := k.Apply(want); err != nil {
		t.Fatal(err)
	}
}

func absent(t *testing.T, file string) {
	t.Helper()
	left, err := filepath.Glob(file + "*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

var wanted = []plan.Sysctl{{Path: fastopen, Value: "5"}, {Path: rmem, Value: "4096 1048576  6291456"}, {Path: rpFilter, Value: "2"}}

func TestApply(t *testing.T) {
	file := start(t)
	k := open(t, file)
	absent(t, file)
	apply(t, k, wanted...)
	check(t, fastopen, "5", rmem, "4096\t1048576\t6291456", rpFilter, "2")

	saved, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, k, wanted...)
	if again, err := os.Stat(file); err != nil || !os.SameFile(saved, again) || !saved.ModTime().Equal(again.ModTime()) {
		t.Error("the file was written again though nothing has changed:", err)
	}

	apply(t, k, wanted[1])
	check(t, fastopen, "1", rmem, "4096\t1048576\t6291456", rpFilter, "1")
	apply(t, k, plan.Sysctl{Path: rmem, Value: "4096 2097152 6291456"})
	check(t, rmem, "4096\t2097152\t6291456")
	apply(t, k)
	check(t, rmem, "4096\t131072\t6291456")
	absent(t, file)
}

func TestAlreadySo(t *testing.T) {
	file := start(t)
	put(t, fastopen, "5")
	k := open(t, file)
	apply(t, k, plan.Sysctl{Path: fastopen, Value: "5"})
	absent(t, file)
	apply(t, k)
	check(t, fastopen, "5")
}

func TestKilled(t *testing.T) {
	t.Run("then torn down", func(t *testing.T) {
		file := start(t)
		apply(t, open(t, file), wanted...)
		apply(t, open(t, file))
		check(t, fastopen, "1", rmem, "4096\t131072\t6291456", rpFilter, "1")
		absent(t, file)
	})
	t.Run("then started", func(t *testing.T) {
		file := start(t)
		apply(t, open(t, file), wanted...)
		k := open(t, file)
		apply(t, k, wanted...)
		apply(t, k, plan.Sysctl{Path: fastopen, Value: "3"})
		check(t, fastopen, "3", rpFilter, "1")
		apply(t, open(t, file))
		check(t, fastopen, "1")
		absent(t, file)
	})
}

// A Kind of our own dies at the moment of writing, the worst there is.
func TestKilledBeforeWriting(t *testing.T) {
	kernel := map[string]string{"a": "original"}
	var dying, killed bool
	kind := sysctl.Kind{
		Name: "test",
		Read: func(key string) (string, error) { return kernel[key], nil },
		Write: func(key, value string) error {
			if dying {
				killed = true
				panic("killed")
			}
			kernel[key] = value
			return nil
		},
	}
	want := func(v string) []sysctl.Setting { return []sysctl.Setting{{Key: "a", Value: v}} }
	kill := func(file, v string) {
		defer func() { recover(); dying = false }()
		dying, killed = true, false
		open(t, file).Keep(kind, want(v))
	}
	file := start(t)

	kill(file, "first")
	if err := open(t, file).Keep(kind, want("first")); !killed || err != nil || kernel["a"] != "first" {
		t.Error("first value:", killed, err, kernel)
	}
	kill(file, "second")
	if err := open(t, file).Keep(kind, want("third")); !killed || err != nil || kernel["a"] != "third" {
		t.Error("third value:", killed, err, kernel)
	}
	kill(file, "fourth")
	if err := open(t, file).Keep(kind, nil); !killed || err != nil || kernel["a"] != "original" {
		t.Error("put back:", killed, err, kernel)
	}
	absent(t, file)
}

func TestKindsAreApart(t *testing.T) {
	file := start(t)
	value := "low"
	kind := sysctl.Kind{
		Name:  "other",
		Read:  func(string) (string, error) { return value, nil },
		Write: func(_, v string) error { value = v; return nil },
	}
	k := open(t, file)
	apply(t, k, wanted...)
	if err := k.Keep(kind, []sysctl.Setting{{Key: fastopen, Value: "high"}}); err != nil {
		t.Fatal(err)
	}
	apply(t, k)
	check(t, fastopen, "1")
	if value != "high" {
		t.Errorf("tearing down sysctls has made another kind's setting %q", value)
	}
	if err := open(t, file).Keep(kind, nil); err != nil || value != "low" {
		t.Error(value, err)
	}
	absent(t, file)
}

func TestChangedByOthers(t *testing.T) {
	for _, theirs := range []string{"3", "1"} { // 1 is the original
		t.Run(theirs, func(t *testing.T) {
			file := start(t)
			k := open(t, file)
			apply(t, k, wanted...)
			put(t, fastopen, theirs)
			err := k.Apply(wanted)
			var changed *sysctl.ChangedError
			if !errors.As(err, &changed) {
				t.Fatalf("error %v, want a ChangedError", err)
			}
			if diff := cmp.Diff(sysctl.ChangedError{Key: fastopen, Want: "5", Found: theirs}, *changed); diff != "" {
				t.Error(diff)
			}
			check(t, fastopen, "5")
			apply(t, k, wanted...) // it is said once

			put(t, fastopen, theirs)
			apply(t, k)
			check(t, fastopen, theirs, rpFilter, "1")
			absent(t, file)
		})
	}
}

func TestDevice(t *testing.T) {
	file := start(t)
	k := open(t, file)
	apply(t, k, wanted...)

	ip(t, "link del eth1")
	err := k.Apply(wanted)
	if !errors.Is(err, os.ErrNotExist) || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("sysctl of a device that is gone: %v, want one ErrNotExist", err)
	}
	ip(t, "link add eth1 type veth peer name peer1")
	put(t, rpFilter, "0")
	apply(t, k, wanted...)
	check(t, rpFilter, "2")
	apply(t, k, wanted[:2]...)
	check(t, rpFilter, "0")

	apply(t, k, wanted...)
	ip(t, "link del eth1")
	apply(t, k)
	check(t, fastopen, "1")
	absent(t, file)
}

func TestRefused(t *testing.T) {
	file := start(t)
	k := open(t, file)
	const odd = "net/ipv4/ip_default_ttl" // 1 to 255
	ttl := get(t, odd)
	err := k.Apply([]plan.Sysctl{{Path: "net/mptcp/not_in_this_kernel", Value: "1"}, {Path: odd, Value: "999"}, {Path: "../version", Value: "1"}, wanted[0]})
	for _, want := range []error{os.ErrNotExist, unix.EINVAL} {
		if !errors.Is(err, want) {
			t.Errorf("error %v, want it to wrap %v", err, want)
		}
	}
	if !strings.Contains(err.Error(), "../version") {
		t.Errorf("error %v does not name the path that leads out", err)
	}
	check(t, fastopen, "5", odd, ttl)
	apply(t, k)
	check(t, fastopen, "1", odd, ttl)
	absent(t, file)
}

// What cannot be saved is not set, and teardown does not depend on saving.
func TestCannotSave(t *testing.T) {
	file := start(t)
	k := open(t, file)
	apply(t, k, wanted[0])
	if err := os.Mkdir(file+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := k.Apply(wanted); !errors.Is(err, unix.EISDIR) {
		t.Errorf("error %v, want EISDIR", err)
	}
	check(t, fastopen, "5", rpFilter, "1")
	apply(t, k)
	check(t, fastopen, "1", rpFilter, "1")
	absent(t, file)
}

func TestOpenBroken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "originals")
	const good = `"sysctl" "net/ipv4/tcp_fastopen" "1" "5"` + "\n"
	for _, text := range []string{
		"", "{", "\n", good + "\n", good + good[:len(good)-2], good[1:],
		`"sysctl" "net/ipv4/tcp_fastopen" "1"`,      // nothing of ours
		`"sysctl"  "net/ipv4/tcp_fastopen" "1" "5"`, // two spaces
		`"sysctl" "net/ipv4/tcp_fastopen" "1" "5" `,
		`"sysctl""net/ipv4/tcp_fastopen" "1" "5"`,
		`sysctl net/ipv4/tcp_fastopen 1 5`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sysctl.Open(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: error %v, want one that names the file", text, err)
		}
	}
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, file)
}

// Whatever a key or a value has in it, the next Keeper reads.
func TestOddValues(t *testing.T) {
	for _, odd := range []string{"", "two words", "a\nb", "4096\t131072", `"`, `\`, "\x00\xff", "über"} {
		file := filepath.Join(t.TempDir(), "originals")
		kernel := odd
		kind := sysctl.Kind{
			Name:  "kind of " + odd,
			Read:  func(string) (string, error) { return kernel, nil },
			Write: func(_, v string) error { kernel = v; return nil },
		}
		key := "key " + odd
		if err := open(t, file).Keep(kind, []sysctl.Setting{{Key: key, Value: "ours " + odd}}); err != nil || kernel != "ours "+odd {
			t.Errorf("setting %q: %q, %v", odd, kernel, err)
		}
		if err := open(t, file).Keep(kind, []sysctl.Setting{{Key: key, Value: "ours " + odd}}); err != nil {
			t.Errorf("a successor takes %q for somebody else's: %v", kernel, err)
		}
		if err := open(t, file).Keep(kind, nil); err != nil || kernel != odd {
			t.Errorf("putting %q back: %q, %v", odd, kernel, err)
		}
		absent(t, file)
	}
}
