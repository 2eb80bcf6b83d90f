// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/transport/journal"
)

var byValue = cmp.Options{
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func write(t *testing.T, text string) string {
	name := filepath.Join(t.TempDir(), "braid-mcp.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const (
	cookie = "000102030405060708090a0b0c0d0e0f"
	key    = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfefff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
)

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func load(name string, listen, networks []string) (Config, error) {
	return Source{File: name, Listen: listen, Networks: networks}.Load()
}

func TestFull(t *testing.T) {
	got, err := load(write(t, `
listen = ["[::]:5124", "192.0.2.10:443"]
announce = ["2001:db8:10::10"]
metrics = ""
allow_destinations = ["10.1.0.0/16", "fd00::1"]
deny_destinations = ["192.0.2.0/24"]
deny_ports = [25, 465]
source = ["198.51.100.9"]
rate = 900000
drain = 20
log_level = "debug"
address_log = "/var/log/braid-mcp/addresses"

[[client]]
name = "alice"
cookie = "`+cookie+`"
key = "`+key+`"
networks = ["198.51.100.0/24"]
destinations = ["0.0.0.0/0"]
connections = 10
pending = 3
connections_per_second = 5
rate = 1000
expires = 2027-01-01

[[client]]
networks = ["203.0.113.7"]
`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Listen:            []netip.AddrPort{netip.MustParseAddrPort("[::]:5124"), netip.MustParseAddrPort("192.0.2.10:443")},
		Announce:          []netip.Addr{netip.MustParseAddr("2001:db8:10::10")},
		AllowDestinations: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::1/128")},
		DenyDestinations:  []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		DenyPorts:         []uint16{25, 465},
		Source:            []netip.Addr{netip.MustParseAddr("198.51.100.9")},
		Rate:              900000,
		Drain:             20 * time.Second,
		LogLevel:          journal.Debug,
		AddressLog:        "/var/log/braid-mcp/addresses",
		Clients: []Client{
			{Name: "alice", Cookie: unhex(t, cookie), Key: unhex(t, key), Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
				Destinations: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Connections: 10, Pending: 3, PerSecond: 5, Rate: 1000,
				Expires: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
			{Name: "client 2", Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}, Connections: 4096, Pending: 1024},
		},
	}
	if d := cmp.Diff(want, got, byValue); d != "" {
		t.Error(d)
	}
}

func TestOnPath(t *testing.T) {
	prefixes := func(list ...string) (ps []netip.Prefix) {
		for _, s := range list {
			ps = append(ps, netip.MustParsePrefix(s))
		}
		return ps
	}
	const head = "[on_path]\ninterfaces = [\"eth1\", \"eth2.7\"]\nclients = [\"203.0.113.0/24\", \"2001:db8::/32\"]\n"
	want := OnPath{Interfaces: []string{"eth1", "eth2.7"}, Clients: prefixes("203.0.113.0/24", "2001:db8::/32")}
	lend := netip.MustParsePrefix("2001:db8:64::/96")
	for text, lends := range map[string]OnPath{
		"":                            {LendTo: LendTo{Learned: true}},
		"lend = \"2001:db8:64::/96\"": {Lend: lend, LendTo: LendTo{Learned: true}},
		"lend_to = \"learned\"":       {LendTo: LendTo{Learned: true}},
		"lend = \"2001:db8:64::/96\"\nlend_to = \"all\"":    {Lend: lend, LendTo: LendTo{All: true}},
		"lend_to = [\"203.0.113.0/25\", \"203.0.113.200\"]": {LendTo: LendTo{Prefixes: prefixes("203.0.113.0/25", "203.0.113.200/32")}},
	} {
		got, err := load(write(t, head+text), nil, nil)
		want.Lend, want.LendTo = lends.Lend, lends.LendTo
		if err != nil || got.OnPath == nil || !got.OnPath.Equal(want) {
			t.Errorf("%s: %+v, %v", text, got.OnPath, err)
		}
	}
	for text, key := range map[string]string{
		"[on_path]":                                      "on_path.interfaces",
		"[on_path]\ninterfaces = [\"eth1\"]":             "on_path.clients",
		"[on_path]\ninterfaces = [\"a b\"]":              "on_path.interfaces",
		"[on_path]\ninterfaces = [\"sixteencharacter\"]": "on_path.interfaces",
		"[on_path]\nclients = [\"203.0.113.1/24\"]":      "on_path.clients",
		head + "lend = \"2001:db8:64::/64\"":             "on_path.lend",
		head + "lend = \"2001:db8:64:0:100::/96\"":       "on_path.lend",
		head + "lend = \"192.0.2.0/24\"":                 "on_path.lend",
		head + "lend_to = \"some\"":                      "on_path.lend_to",
		head + "lend_to = [\"learned\"]":                 "on_path.lend_to",
		head + "lend_to = 7":                             "on_path.lend_to",
		head + "lend_for = \"all\"":                      "on_path.lend_for: unknown key",
	} {
		if _, err := load(write(t, text), nil, nil); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v, want one about %s", text, err, key)
		}
	}
}

func TestFlagsAlone(t *testing.T) {
	got, err := load("", []string{":443"}, []string{"0.0.0.0/0"})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Listen:  []netip.AddrPort{netip.MustParseAddrPort("[::]:443")},
		Metrics: DefaultMetrics,
		Drain:   DefaultDrain, DenyPorts: []uint16{25},
		Clients: []Client{{Name: "0.0.0.0/0", Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Connections: 4096, Pending: 1024}},
	}
	if d := cmp.Diff(want, got, byValue); d != "" {
		t.Error(d)
	}
}

func TestBadInput(t *testing.T) {
	const ok = "\n[[client]]\nname = \"ok\"\ncookie = \"" + cookie + "\"\n"
	tests := []struct{ name, text, want string }{
		{"syntax", "listen = [", ":1: "},
		{"unknown key", "liston = []" + ok, "liston: unknown key"},
		{"another type", "listen = \"x\"\n" + ok, ":1: listen: it is a text, and has to be a list"},
		{"listen", `listen = ["nonsense"]` + ok, "listen: "},
		{"listen port", `listen = ["[::]:0"]` + ok, "listen: \"[::]:0\": port 0"},
		{"announce", `announce = ["ff02::1"]` + ok, "announce: \"ff02::1\" is no unicast address"},
		{"metrics", `metrics = "nowhere"` + ok, "metrics: "},
		{"destinations", `allow_destinations = ["10.0.0.1/8"]` + ok, "allow_destinations: \"10.0.0.1/8\" has bits set beyond its length, meant 10.0.0.0/8?"},
		{"client without anything", "[[client]]\nname = \"x\"", "client[0]: needs a key, a cookie or networks"},
		{"cookie", "[[client]]\ncookie = \"xyz\"", "client[0].cookie: "},
		{"long cookie", "[[client]]\ncookie = \"" + strings.Repeat("01", 65) + "\"", "client[0].cookie: has 65 bytes, not 16 to 64"},
		{"short cookie", "[[client]]\ncookie = \"00\"", "client[0].cookie: has 1 bytes, not 16 to 64"},
		{"zeros", "[[client]]\ncookie = \"" + strings.Repeat("00", 16) + "\"", "client[0].cookie: has 16 bytes, not 16 to 64 without zeros"},
		{"cookie twice", ok + ok, "client[1].cookie: is that of \"ok\" too"},
		{"cookie twice, padded", ok + "[[client]]\ncookie = \"" + cookie + "00\"", "client[1].cookie: is that of \"ok\" too"},
		{"name twice", ok + "[[client]]\nname=\"ok\"\nnetworks=[\"::/0\"]", "client[1].name: is that of \"ok\" too"},
		{"short key", "[[client]]\nkey = \"0102\"", "client[0].key: has 2 bytes, not 16 to 64"},
		{"key twice", "[[client]]\nkey = \"" + key + "\"\n[[client]]\nkey = \"" + key + "\"", "client[1].key: is that of \"client 1\" too"},
		{"rate", ok + "rate = -1", "client[0].rate: -1, at least 0"},
		{"pending", ok + "pending = 0", "client[0].pending: 0, at least 1"},
		{"expires", ok + "expires = \"soon\"", "expires"},
		{"drain", "drain = -1" + ok, "drain: -1, at least 0"},
		{"rate of all", "rate = -1" + ok, "rate: -1, at least 0"},
		{"address log", "address_log = \"x\"" + ok, "address_log: \"x\" does not begin with /"},
		{"source", "source = [\"::1%lo\"]" + ok, "source: "},
		{"port", "deny_ports = [70000]" + ok, "deny_ports"},
		{"networks", "[[client]]\nnetworks = [\"here\"]", "client[0].networks: "},
		{"connections", ok + "connections = 0", "client[0].connections: 0, at least 1"},
		{"type", "listen = 5" + ok, "listen"},
	}
	for _, tt := range tests {
		name := write(t, tt.text)
		_, err := load(name, nil, nil)
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := load("/nonexistent.toml", nil, []string{"::/0"}); err == nil {
		t.Error("a file that is asked for and missing was accepted")
	}
	if _, err := load("", []string{"x"}, []string{"y"}); err == nil || !strings.Contains(err.Error(), "-listen") || !strings.Contains(err.Error(), "-client") {
		t.Errorf("bad flags: %v", err)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	for _, bad := range []string{key + "z", key[1:], key + key + key} {
		if _, err := load(write(t, "[[client]]\nkey = \""+bad+"\""), nil, nil); err == nil || strings.Contains(err.Error(), bad[:8]) {
			t.Errorf("%v", err)
		}
	}
}

// A file with keys that everybody may read is told of, and taken.
func TestOpenFiles(t *testing.T) {
	file := write(t, "[[client]]\nname = \"old\"\ncookie = \""+cookie+"\"\n")
	s := Source{File: file}
	if _, err := s.Add("home"); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(s.Dir(), "home.toml")
	for _, tt := range []struct {
		file string
		mode os.FileMode
		told bool
	}{{file, 0o644, true}, {file, 0o640, false}, {own, 0o604, true}, {own, 0o640, false}} {
		if err := os.Chmod(tt.file, tt.mode); err != nil {
			t.Fatal(err)
		}
		c, err := s.Load()
		if told := len(c.Warnings) == 1 && strings.HasPrefix(c.Warnings[0], tt.file+": "); err != nil || told != tt.told || !tt.told && len(c.Warnings) > 0 {
			t.Errorf("%s with mode %v: %q, %v", tt.file, tt.mode, c.Warnings, err)
		}
	}
}

// A client is added, found, and removed; what is in the way is said.
func TestDirectory(t *testing.T) {
	file := write(t, "[[client]]\nname = \"old\"\ncookie = \""+cookie+"\"\n")
	s := Source{File: file}
	key, err := s.Add("home")
	if err != nil || len(key) != 64 {
		t.Fatalf("key %q, %v", key, err)
	}
	if other, err := s.Add("other"); err != nil || other == key {
		t.Errorf("another key %q, %v", other, err)
	}
	fi, err := os.Stat(filepath.Join(s.Dir(), "home.toml"))
	if err != nil || fi.Mode() != 0o640 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if fi, err := os.Stat(s.Dir()); err != nil || fi.Mode().Perm() != 0o750 {
		t.Errorf("directory: %v, %v", fi.Mode(), err)
	}
	c, err := s.Load()
	if err != nil || len(c.Clients) != 3 {
		t.Fatalf("%+v, %v", c.Clients, err)
	}
	if got := c.Clients[1]; got.Name != "home" || hex.EncodeToString(got.Key) != key || got.Connections != DefaultConnections {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"home", "old", "", ".", "..", "../x", "a/b", "-x", ".new-1", "ä", strings.Repeat("x", 65)} {
		if _, err := s.Add(name); err == nil {
			t.Errorf("added %q", name)
		}
	}
	for _, name := range []string{"old", "nobody", "../braid-mcp"} {
		if err := s.Remove(name); err == nil {
			t.Errorf("removed %q", name)
		}
	}
	if err := s.Remove("home"); err != nil {
		t.Error(err)
	}
	if c, err = s.Load(); err != nil || len(c.Clients) != 2 {
		t.Errorf("left: %+v, %v", c.Clients, err)
	}
	left, _ := os.ReadDir(s.Dir())
	if len(left) != 1 || left[0].Name() != "other.toml" {
		t.Errorf("left: %v", left)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "bad.toml"), []byte("rate = 5"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(); err == nil || !strings.Contains(err.Error(), "bad.toml: rate: unknown key") {
		t.Errorf("a bad file: %v", err)
	}
}

func TestManyClients(t *testing.T) {
	var b strings.Builder
	for i := range 20000 {
		b.WriteString("[[client]]\nkey = \"" + hex.EncodeToString([]byte{byte(i >> 16), byte(i >> 8), byte(i)}) + key + "\"\n")
	}
	began := time.Now()
	c, err := load(write(t, b.String()), nil, nil)
	if err != nil || len(c.Clients) != 20000 || time.Since(began) > 20*time.Second {
		t.Errorf("%d clients in %v, %v", len(c.Clients), time.Since(began), err)
	}
}
