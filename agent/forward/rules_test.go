// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// rulesOf reads the listings in a case.
func rulesOf(t testing.TB, text string) (r Rules) {
	t.Helper()
	_, listings, _ := strings.Cut("\n"+text, "\n-- ")
	for l := range strings.SplitSeq(listings, "\n-- ") {
		kind, listing, _ := strings.Cut(l, " --\n")
		err := fmt.Errorf("no listing of kind %q", kind)
		switch kind {
		case "nft":
			err = r.AddNFT(listing)
		case "iptables", "ip6tables":
			err = r.AddIPTables(listing, kind == "ip6tables")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// Each file has what is seen of flows of IPv4 and IPv6, and the listings that
// say so.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			r := rulesOf(t, string(b))
			var want, got []string
			flows, _, _ := strings.Cut(string(b), "\n-- ")
			for line := range strings.Lines(flows) {
				in, rest, ok := strings.Cut(strings.TrimSpace(line), " > ")
				if !ok {
					continue
				}
				out, _, _ := strings.Cut(rest, ":")
				want = append(want, strings.TrimSpace(line))
				got = append(got, fmt.Sprintf("%s > %s: %v %v", in, out, r.Verdict(Flow{in, out, false}), r.Verdict(Flow{in, out, true})))
			}
			if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
		})
	}
}

// What cannot be read is no verdict.
func TestMalformed(t *testing.T) {
	for _, listing := range []string{"table inet a {", "}", strings.Repeat("{", 20) + strings.Repeat("}", 20)} {
		if err := new(Rules).AddNFT(listing); err == nil {
			t.Errorf("%q is read", listing)
		}
	}
	if err := new(Rules).AddIPTables("*filter\n-A FORWARD -m comment --comment \"a\n", false); err == nil {
		t.Error("a quotation mark that nothing ends is read")
	}
}

// Chains that call each other or are not there tell nothing, and end.
func TestLoop(t *testing.T) {
	r := rulesOf(t, `-- nft --
table inet a {
	chain forward {
		type filter hook forward priority filter; policy drop;
		oifname "wan0" jump one
		oifname "wan1" jump nothing
	}
	chain one {
		jump two
	}
	chain two {
		goto one
	}
}
`)
	for out, want := range map[string]Verdict{"wan0": Either, "wan1": Either, "wan2": Drops} {
		if got := r.Verdict(Flow{In: "lan0", Out: out}); got != want {
			t.Errorf("to %s: %v, want %v", out, got, want)
		}
	}
}

func FuzzNFT(f *testing.F) {
	fuzz(f, "nft", func(r *Rules, text string) error { return r.AddNFT(text) })
}

func FuzzIPTables(f *testing.F) {
	fuzz(f, "iptables", func(r *Rules, text string) error { return r.AddIPTables(text, false) })
}

func fuzz(f *testing.F, kind string, read func(*Rules, string) error) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if _, listing, ok := strings.Cut(string(b), "\n-- "+kind+" --\n"); ok {
			f.Add(listing)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<14 {
			return
		}
		var r Rules
		if read(&r, text) != nil {
			return
		}
		for _, flow := range []Flow{{"br-lan", "eth1", false}, {"lan0", "wan1", true}} {
			if v := r.Verdict(flow); v < Either || v > Drops {
				t.Errorf("%v: %d", flow, v)
			}
		}
	})
}

func BenchmarkVerdict(b *testing.B) {
	text, err := os.ReadFile("testdata/openwrt.txt")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r := rulesOf(b, string(text))
		for _, out := range []string{"eth1", "wwan0", "wwan1"} {
			for _, v6 := range []bool{false, true} {
				r.Verdict(Flow{"br-lan", out, v6})
			}
		}
	}
}
