// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package dnsmasq

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

func TestLines(t *testing.T) {
	tests := []struct {
		name string
		all  []Names
		want []string
	}{
		{"none", nil, nil},
		{"a rule without names", []Names{{nil, "a"}}, nil},
		{"one", []Names{{[]string{"bank.example"}, "4#inet#braid#a_4"}}, []string{"nftset=/bank.example/4#inet#braid#a_4"}},
		{"the same name in two rules", []Names{{[]string{"x.example", "y.example"}, "a"}, {[]string{"x.example"}, "b"}},
			[]string{"nftset=/x.example/a,b", "nftset=/y.example/a"}},
		{"a name below another rule's", []Names{{[]string{"www.x.example"}, "a"}, {[]string{"x.example"}, "b"}},
			[]string{"nftset=/www.x.example/a,b", "nftset=/x.example/b"}},
		{"a name that only ends alike", []Names{{[]string{"xx.example"}, "a"}, {[]string{"x.example"}, "b"}},
			[]string{"nftset=/x.example/b", "nftset=/xx.example/a"}},
		{"a name below one of the same rule", []Names{{[]string{"www.x.example", "x.example"}, "a"}},
			[]string{"nftset=/www.x.example/a", "nftset=/x.example/a"}},
	}
	for _, tt := range tests {
		got, err := Lines("nftset", tt.all)
		if d := cmp.Diff(tt.want, got); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, d)
		}
	}
	long := strings.Repeat("s", maxLine-len("nftset=/a/"))
	got, err := Lines("nftset", []Names{{[]string{"a"}, long}, {[]string{"b"}, long + "s"}})
	if len(got) != 1 || len(got[0]) != maxLine || err == nil || err.Error() != "domain b: it is in more rules than dnsmasq has room for" {
		t.Errorf("%d lines, %v", len(got), err)
	}
}

// daemon is a real dnsmasq whose configuration lies where an init script
// would have put it.
type daemon struct {
	Server
	dir      string // of others' files
	restarts string // has a byte for each
}

const bankAddr = "192.0.2.44"

func run(t *testing.T) *daemon {
	t.Helper()
	base := t.TempDir()
	must(t, os.Chmod(base, 0o755))
	i := &daemon{dir: filepath.Join(base, "more.d"), restarts: filepath.Join(base, "restarts")}
	must(t, os.Mkdir(i.dir, 0o755))
	config := filepath.Join(base, "dnsmasq.conf.cfg01411c")
	must(t, os.WriteFile(config, []byte(`# generated
no-resolv
no-hosts
user=root
listen-address=127.0.0.1
bind-interfaces
server=127.0.0.1#5353
conf-dir=`+i.dir+`,*.conf
`), 0o644))
	pid := filepath.Join(base, "pid")
	// The file goes before the process does.
	script := `if [ -e ` + pid + ` ]; then old=$(cat ` + pid + `); kill "$old"; while [ -e "/proc/$old/exe" ]; do sleep 0.02; done; fi
		printf r >>` + i.restarts + `
		exec dnsmasq --conf-file=` + config + ` --pid-file=` + pid
	i.Server = Server{Configs: filepath.Join(base, "dnsmasq.conf*"), Program: "dnsmasq", Restart: []string{"sh", "-ec", script},
		Forget: []string{"sh", "-ec", `kill -HUP "$(cat ` + pid + `)"; printf f >>` + i.restarts + `.forgotten`}}
	upstream := filepath.Join(base, "upstream")
	sh(t, "dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --user=root --listen-address=127.0.0.1 --bind-interfaces --port=5353 "+
		"--address=/bank.example/"+bankAddr+" --pid-file="+upstream)
	sh(t, script)
	t.Cleanup(func() { // and wait: the next test has servers at the same addresses
		sh(t, `for old in "$(cat `+pid+`)" "$(cat `+upstream+`)"; do
			kill "$old"
			while [ -e "/proc/$old/exe" ]; do sleep 0.02; done
		done`)
	})
	return i
}

func (i *daemon) count(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(i.restarts)
	must(t, err)
	return len(b)
}

// resolved waits until the server answers, following the lines, having been
// restarted so often, and no restart is under way: reasons that come meanwhile
// share the next one.
func (i *daemon) resolved(t *testing.T, restarts int, lines []string) {
	t.Helper()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:53")
	}}
	var addrs []netip.Addr
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		must(t, i.Apply(t.Context(), lines))
		if i.count(t) != restarts || i.resultC != nil {
			continue
		}
		addrs, err = r.LookupNetIP(t.Context(), "ip4", "www.bank.example.")
		if err == nil && len(addrs) == 1 && addrs[0].Unmap().String() == bankAddr {
			return
		}
	}
	t.Fatalf("after %d restarts, want %d: %v, %v", i.count(t), restarts, addrs, err)
}

func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The real server fills a real set, is restarted once for each reason, and
// forgets us when there is nothing to fill any more.
func TestApply(t *testing.T) {
	sh(t, "nft 'table inet t { set bank_4 { type ipv4_addr; }; }'")
	t.Cleanup(func() { sh(t, "nft delete table inet t") })
	filled := func() {
		t.Helper()
		if set := sh(t, "nft list set inet t bank_4"); !strings.Contains(set, bankAddr) {
			t.Errorf("not filled: %s", set)
		}
	}
	i := run(t)
	i.resolved(t, 1, nil)
	theirs := filepath.Join(i.dir, "theirs.conf")
	must(t, os.WriteFile(theirs, []byte("# theirs\n"), 0o644))
	lines, err := Lines("nftset", []Names{{[]string{"bank.example"}, "4#inet#t#bank_4"}})
	must(t, err)
	i.resolved(t, 2, lines)
	filled()
	// Somebody clears the directory: it is noticed.
	sh(t, "rm "+i.dir+"/"+file)
	i.resolved(t, 3, lines)
	// The sets are made anew: what is in the cache has to get into them, for which
	// the server need not be away.
	sh(t, "nft flush set inet t bank_4")
	i.Refill()
	i.resolved(t, 3, lines)
	filled()
	i.Pause = time.Hour // but not again and again
	i.Refill()
	for range 3 {
		must(t, i.Apply(t.Context(), lines))
	}
	i.resolved(t, 3, lines)
	if b, err := os.ReadFile(i.restarts + ".forgotten"); len(b) != 1 {
		t.Errorf("forgot %d times, %v", len(b), err)
	}
	i.resolved(t, 4, nil) // which is a change
	left, err := filepath.Glob(filepath.Join(i.dir, "*"))
	must(t, err)
	if d := cmp.Diff([]string{theirs}, left); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
}

// A dnsmasq that would not start with our lines does not get them, nor does it
// keep them when it has become such a one.
func TestWithout(t *testing.T) {
	lines := []string{"nftset=/bank.example/4#inet#t#bank_4"}
	i := run(t)
	i.resolved(t, 1, nil)
	real := i.Program
	i.Program = filepath.Join(t.TempDir(), "dnsmasq")
	must(t, os.WriteFile(i.Program, []byte("#!/bin/sh\nprintf v >>"+i.restarts+".asked\necho 'Dnsmasq version 2.90'\necho 'Compile time options: IPv6 no-ipset no-nftset'\n"), 0o755))
	refused := func() {
		t.Helper()
		for range 3 {
			err := i.Apply(t.Context(), lines)
			if err == nil || !strings.Contains(err.Error(), "this dnsmasq has no nftset, that of the package dnsmasq-full has") {
				t.Errorf("%v", err)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(i.dir, "*")); len(left) > 0 {
			t.Errorf("left %v", left)
		}
	}
	refused()
	if asked := sh(t, "cat "+i.restarts+".asked"); asked != "v" {
		t.Errorf("asked %d times", len(asked))
	}
	poor := i.Program
	i.Program = real
	i.resolved(t, 2, lines)
	i.Program = poor
	refused()
	i.resolved(t, 3, nil)
}

func TestErrors(t *testing.T) {
	lines := []string{"nftset=/bank.example/4#inet#t#bank_4"}
	must(t, (&Server{Configs: filepath.Join(t.TempDir(), "*")}).Apply(t.Context(), lines)) // no dnsmasq of that kind
	i := run(t)
	restart := i.Restart
	i.Restart, i.Pause = []string{"false"}, time.Hour
	failure := func() (err error) {
		for end := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			err = i.Apply(t.Context(), lines)
		}
		return err
	}
	if err := failure(); err == nil || err.Error() != "restarting dnsmasq: exit status 1" {
		t.Errorf("a restart that fails: %v", err)
	}
	must(t, i.Apply(t.Context(), lines)) // told once
	i.Restart, i.Pause = restart, 0
	i.resolved(t, 2, lines) // and tried again
	// Of two instances one cannot be told; the other one is.
	more := filepath.Join(t.TempDir(), "more.d")
	must(t, os.Mkdir(more, 0o755))
	must(t, os.WriteFile(strings.TrimSuffix(i.Configs, "*")+".other", []byte("conf-dir="+more+"\n"), 0o644))
	must(t, os.MkdirAll(filepath.Join(more, file, "a directory"), 0o755))
	changed := []string{lines[0] + "x"}
	if err := i.Apply(t.Context(), changed); err == nil || !strings.Contains(err.Error(), "telling dnsmasq of the rules' domains: ") {
		t.Errorf("an instance that cannot be told: %v", err)
	}
	if got := sh(t, "cat "+i.dir+"/"+file); !strings.Contains(got, changed[0]) {
		t.Errorf("the other instance: %s", got)
	}
	must(t, os.RemoveAll(filepath.Join(more, file)))
	i.resolved(t, 4, changed)
}
