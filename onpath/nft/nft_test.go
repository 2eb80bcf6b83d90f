// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/onpath/nft"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

func TestFill(t *testing.T) {
	const template = `# ${one} of ${two}
table inet t {
	${rules}
	${none}
	mark ${mark} # ${rules}
}
`
	got := nft.Fill(template, nft.Values{
		Text:  map[string]string{"one": "1", "two": "2", "mark": "0x10"},
		Lines: map[string][]string{"rules": {"accept", "", "drop"}},
	})
	const want = `# 1 of 2
table inet t {
	accept

	drop
	mark 0x10 # 
}
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("filled (-want +got):\n%s", diff)
	}
}

func TestRun(t *testing.T) {
	generation := func() uint32 {
		t.Helper()
		g, err := nft.Generation()
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	before := generation()
	if _, err := nft.Run(t.Context(), "add table inet t\nadd chain inet t c\n", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	after := generation()
	if after != before+1 {
		t.Errorf("generation %d after %d: one transaction is one", after, before)
	}
	out, err := nft.Run(t.Context(), "", "list", "table", "inet", "t")
	if err != nil || !strings.Contains(out, "chain c {") {
		t.Errorf("%q, %v", out, err)
	}
	if _, err = nft.Run(t.Context(), "", "list", "table", "inet", "nobody"); !nft.Absent(err) {
		t.Errorf("a table that is not there: %v", err)
	}
	_, err = nft.Run(t.Context(), "add table inet u\nnonsense\n", "-f", "-")
	var failed *nft.Error
	if nft.Absent(err) || !errors.As(err, &failed) || !strings.Contains(failed.Output, "nonsense") {
		t.Errorf("what nft does not understand: %v", err)
	}
	if generation() != after {
		t.Error("a half of what failed is there")
	}
}
