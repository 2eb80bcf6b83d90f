// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package rooms holds the direction of imports that docs/design.md describes.
package rooms

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// may says what of ours each room may import. A name that ends in /... stands
// for all rooms below it. What a room imports only for its tests is free, but
// for what TestEndsAreApart says.
var may = []struct {
	room    string
	imports string
}{
	{"agent/cmd/braid", "agent/daemon agent/uci agent/config agent/converter agent/path agent/report agent/ubus transport/..."},
	{"agent/daemon", "agent/clat agent/config agent/converter agent/extend agent/forward agent/health agent/history agent/load agent/modem agent/nameserver agent/netifd " +
		"agent/netstate agent/path agent/plan agent/proxy agent/quota agent/reconcile agent/report agent/status agent/ubus agent/uci onpath/... transport/..."},
	{"agent/status", "agent/config agent/converter agent/extend agent/health agent/history agent/load agent/modem agent/netstate agent/path agent/plan agent/proxy " +
		"agent/quota agent/reconcile agent/report agent/ubus transport/mptcp"},
	{"agent/netifd", "agent/netstate agent/ubus"},
	{"agent/reconcile", "agent/plan agent/dnsmasq agent/kernel/... transport/mptcp"},
	{"agent/kernel/...", "agent/plan agent/config agent/kernel/sysctl onpath/lend onpath/nft transport/mptcp"},
	{"agent/extend", "agent/plan onpath/... transport/journal"},
	{"agent/plan", "agent/config agent/health agent/load agent/modem agent/nameserver agent/netstate agent/path transport/mptcp"},
	{"agent/health", "agent/config agent/netstate agent/socket/... transport/guard transport/journal"},
	{"agent/load", "agent/config agent/netstate"},
	{"agent/clat", "agent/plan agent/socket/ra onpath/... transport/journal"},
	{"agent/proxy", "agent/path agent/config onpath/syn transport/..."},
	{"agent/converter", "agent/config agent/path transport/..."},
	{"agent/path", "agent/config"},
	{"agent/history", "agent/report"},
	{"agent/report", "agent/config"},
	{"agent/config", "agent/uci transport/journal"},
	{"agent/socket/...", "onpath/checksum"},
	{"agent/forward", "onpath/nft"},
	{"agent/dnsmasq", ""},
	{"agent/nameserver", ""},
	{"agent/modem", "transport/journal"},
	{"agent/quota", ""},
	{"agent/netstate", ""},
	{"agent/uci", ""},
	{"agent/ubus", ""},

	{"onpath/...", "onpath/... transport/mptcp"},

	{"mcp/cmd/braid-mcp", "mcp/config mcp/host mcp/onpath mcp/server mcp/systemd transport/journal transport/mptcp"},
	{"mcp/server", "mcp/config mcp/host mcp/onpath transport/..."},
	{"mcp/onpath", "mcp/config onpath/... transport/..."},
	{"mcp/host", "transport/call transport/journal transport/mptcp"},
	{"mcp/config", "transport/journal transport/proof"},
	{"mcp/systemd", ""},

	{"transport/convert", ""},
	{"transport/proof", "transport/convert"},
	{"transport/mptcp", "transport/call"},
	{"transport/call", ""},
	{"transport/relay", "transport/call transport/mptcp transport/tick"},
	{"transport/guard", "transport/mptcp transport/journal transport/tick"},
	{"transport/tick", ""},
	{"transport/journal", ""},

	{"cross", ""},
	{"cross/guest", "test/... agent/report transport/..."},
	{"cross/package", "cross"},
	{"cross/boot", "cross"},
	{"test/bus", "agent/ubus"},
	{"test/rig", "test/... agent/report agent/ubus transport/..."}, // it plays netifd
	{"test/luci", ""},
	{"test/...", "test/... agent/report transport/..."},
}

// speakToTheKernel are the rooms that may import netlink and x/sys/unix.
var speakToTheKernel = []string{"agent/kernel/...", "agent/socket/...", "agent/netstate",
	"onpath/conntrack", "onpath/program", "onpath/syn", "onpath/tproxy", "onpath/tun", "onpath/nft", "onpath/nflog", "onpath/raw", "transport/call", "transport/mptcp", "transport/relay", "transport/tick", "mcp/host", "mcp/onpath", "cross/guest", "test/..."}

// pkg is what `go list` tells of a package.
type pkg struct {
	ImportPath   string
	Module       *struct{ Path string }
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// room is the package's path in this module; "" if it is not of this module.
func room(importPath string) string {
	r, _ := strings.CutPrefix(importPath, "braid/")
	if r == importPath {
		return ""
	}
	return r
}

func (p pkg) testImports() []string { return slices.Concat(p.TestImports, p.XTestImports) }

// ours are the packages of this module.
func ours(t *testing.T) []pkg {
	t.Helper()
	pkgs := list(t, "./...")
	if len(pkgs) == 0 {
		t.Fatal("go list has found no package")
	}
	return pkgs
}

// list runs `go list` in the module's root.
func list(t *testing.T, args ...string) (pkgs []pkg) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(run(t, append([]string{"list", "-json"}, args...)...)))
	for {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func run(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, &stderr)
	}
	return out
}

// within says whether a room is one of those that patterns name.
func within(room string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		below, all := strings.CutSuffix(p, "/...")
		return room == p || all && strings.HasPrefix(room, below+"/")
	})
}

func TestDirection(t *testing.T) {
	for _, p := range ours(t) {
		r := room(p.ImportPath)
		i := slices.IndexFunc(may, func(m struct{ room, imports string }) bool { return within(r, []string{m.room}) })
		if i < 0 {
			t.Errorf("%s is a new room: say in this test what it may import, and in docs/design.md what it is for", r)
			continue
		}
		for _, imported := range p.Imports {
			if to := room(imported); to != "" && !within(to, strings.Fields(may[i].imports)) {
				t.Errorf("%s imports %s, and may only import %q", r, to, may[i].imports)
			}
		}
	}
}

func TestEndsAreApart(t *testing.T) {
	for _, p := range ours(t) {
		r := room(p.ImportPath)
		for _, imported := range slices.Concat(p.Imports, p.testImports()) {
			if within(r, []string{"transport/...", "onpath/...", "mcp/..."}) && within(room(imported), []string{"agent/..."}) {
				t.Errorf("%s imports %s: the gateway's rooms are no business of it", r, room(imported))
			}
		}
	}
}

func TestKernel(t *testing.T) {
	for _, p := range ours(t) {
		r := room(p.ImportPath)
		if within(r, speakToTheKernel) {
			continue
		}
		for _, i := range p.Imports {
			if i == "golang.org/x/sys/unix" || strings.HasPrefix(i, "github.com/vishvananda/net") {
				t.Errorf("%s imports %s, which only %v may", r, i, speakToTheKernel)
			}
		}
	}
}

// net/http and crypto/tls double the size of the gateway's program, which has
// to fit into the flash of a router; the others together add a fifth.
func TestGatewayIsSmall(t *testing.T) {
	deps := list(t, "-deps", "./agent/cmd/braid")
	for _, p := range deps {
		if slices.Contains([]string{"net/http", "crypto/tls", "encoding/json", "log/slog", "text/template"}, p.ImportPath) ||
			strings.HasPrefix(p.ImportPath, "github.com/cilium/ebpf") { // the converter's alone
			t.Errorf("braid links %s, through %v", p.ImportPath, importers(deps, p.ImportPath))
		}
	}
}

func importers(pkgs []pkg, importPath string) (who []string) {
	for _, p := range pkgs {
		if slices.Contains(p.Imports, importPath) {
			who = append(who, p.ImportPath)
		}
	}
	return who
}

// Each module that is used directly is a decision, and design.md gives the
// reasons of decisions.
func TestDependenciesAreExplained(t *testing.T) {
	const file = "docs/design.md"
	design, err := os.ReadFile(path.Join("../..", file))
	if err != nil {
		t.Fatalf("%v: it has to name each direct dependency", err)
	}
	for _, m := range direct(t) {
		if !bytes.Contains(design, []byte(m)) {
			t.Errorf("%s does not name the dependency %s", file, m)
		}
	}
}

// direct are the modules from which ours imports, and those of its tools.
func direct(t *testing.T) []string {
	t.Helper()
	imported := make(map[string]bool)
	for _, p := range ours(t) {
		for _, i := range slices.Concat(p.Imports, p.testImports()) {
			imported[i] = true
		}
	}
	modules := make(map[string]bool)
	for _, p := range list(t, "-deps", "-test", "./...") {
		if imported[p.ImportPath] && p.Module != nil && room(p.ImportPath) == "" {
			modules[p.Module.Path] = true
		}
	}
	for _, p := range list(t, "tool") {
		modules[p.Module.Path] = true
	}
	return slices.Sorted(maps.Keys(modules))
}
