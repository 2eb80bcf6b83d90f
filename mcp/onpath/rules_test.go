// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/mcp/config"
	"braid/onpath/nft"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

var update = flag.Bool("update", false, "write the golden files")

func prefixList(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// The rules, as those read them who look after the box, and the kernel takes
// them, one after the other.
func TestText(t *testing.T) {
	full := config.OnPath{Interfaces: []string{"eth1", "eth2"}, Clients: prefixList("203.0.113.0/24", "203.0.113.64/26", "2001:db8:c::/48"),
		Lend: netip.MustParsePrefix("2001:db8:64::/96")}
	plain := full
	plain.Lend = netip.Prefix{}
	for _, tt := range []struct {
		file  string
		state state
	}{
		{"lend", state{full, 4711, "braid64-0"}},
		{"convert", state{plain, 4711, ""}},
		{"end", state{config.OnPath{Interfaces: full.Interfaces}, 4711, ""}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			got := tt.state.text()
			file := filepath.Join("testdata", tt.file+".nft")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Error(d)
			}
			for range 2 {
				if _, err := nft.Run(t.Context(), got, "-f", "-"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if out, err := nft.Run(t.Context(), "", "list", "ruleset"); err != nil || out != "" {
		t.Errorf("left: %v\n%s", err, out)
	}
}
