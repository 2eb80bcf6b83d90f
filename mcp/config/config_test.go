// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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

func TestFull(t *testing.T) {
	got, err := Load(write(t, `
listen = ["[::]:5124", "192.0.2.10:443"]
announce = ["2001:db8:10::10"]
metrics = ""
allow_destinations = ["10.1.0.0/16", "fd00::1"]

[[client]]
name = "alice"
cookie = "c0ffee"
networks = ["198.51.100.0/24"]
connections = 10

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
		Clients: []Client{
			{Name: "alice", Cookie: []byte{0xc0, 0xff, 0xee}, Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, Connections: 10},
			{Name: "client 2", Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}, Connections: 4096},
		},
	}
	if d := cmp.Diff(want, got, byValue); d != "" {
		t.Error(d)
	}
}

func TestFlagsAlone(t *testing.T) {
	got, err := Load("", []string{":443"}, []string{"0.0.0.0/0"})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Listen:  []netip.AddrPort{netip.MustParseAddrPort("[::]:443")},
		Metrics: DefaultMetrics,
		Clients: []Client{{Name: "0.0.0.0/0", Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Connections: 4096}},
	}
	if d := cmp.Diff(want, got, byValue); d != "" {
		t.Error(d)
	}
}

func TestBadInput(t *testing.T) {
	const ok = "\n[[client]]\ncookie = \"00\"\n"
	tests := []struct{ name, text, want string }{
		{"syntax", "listen = [", ":1: "},
		{"unknown key", "liston = []" + ok, "liston: unknown key"},
		{"listen", `listen = ["nonsense"]` + ok, "listen: "},
		{"listen port", `listen = ["[::]:0"]` + ok, "listen: \"[::]:0\": port 0"},
		{"announce", `announce = ["ff02::1"]` + ok, "announce: \"ff02::1\" is no unicast address"},
		{"metrics", `metrics = "nowhere"` + ok, "metrics: "},
		{"destinations", `allow_destinations = ["10.0.0.1/8"]` + ok, "allow_destinations: \"10.0.0.1/8\" has bits set beyond its length, meant 10.0.0.0/8?"},
		{"no client", "", "no client may use this converter"},
		{"client without anything", "[[client]]\nname = \"x\"", "client[0]: needs a cookie or networks"},
		{"cookie", "[[client]]\ncookie = \"xyz\"", "client[0].cookie: "},
		{"long cookie", "[[client]]\ncookie = \"" + strings.Repeat("00", 65) + "\"", "client[0].cookie: 65 bytes, at most 64"},
		{"cookie twice", ok + ok, "client[1].cookie: is that of \"client 1\" too"},
		{"networks", "[[client]]\nnetworks = [\"here\"]", "client[0].networks: "},
		{"connections", "[[client]]\ncookie = \"00\"\nconnections = 0", "client[0].connections: 0, at least 1"},
		{"type", "listen = 5" + ok, "listen"},
	}
	for _, tt := range tests {
		name := write(t, tt.text)
		_, err := Load(name, nil, nil)
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := Load("/nonexistent.toml", nil, []string{"::/0"}); err == nil {
		t.Error("a file that is asked for and missing was accepted")
	}
	if _, err := Load("", []string{"x"}, []string{"y"}); err == nil || !strings.Contains(err.Error(), "-listen") || !strings.Contains(err.Error(), "-client") {
		t.Errorf("bad flags: %v", err)
	}
}
