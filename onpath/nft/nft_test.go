// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"errors"
	"net"
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
	var ruleset nft.Ruleset
	generation := func() uint32 {
		t.Helper()
		g, err := ruleset.Generation()
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

// What others do, and the elements of sets, are no change; each of what a table
// is made of is.
func TestFingerprint(t *testing.T) {
	run := func(command string) {
		t.Helper()
		if _, err := nft.Run(t.Context(), command+"\n", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	print := func() uint64 {
		t.Helper()
		p, err := nft.Fingerprint("inet ours", "ip ours")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	empty := print()
	run(`table inet ours { set s { type ipv4_addr; flags timeout; }; chain c { type filter hook output priority 5; ip daddr @s return; }; }
		table ip ours { chain c { accept; }; }`)
	whole := print()
	if whole == empty {
		t.Fatal("a table is nothing")
	}
	run(`table inet theirs { chain c { accept; }; }
		add element inet ours s { 192.0.2.1 timeout 9s }`)
	if print() != whole {
		t.Error("another's table or an element counts")
	}
	seen := map[uint64]string{whole: "nothing"}
	for _, command := range []string{"add rule ip ours c drop", "flush chain inet ours c", "add chain inet ours d", "delete table ip ours",
		"add chain inet ours c { policy drop; }", "add set inet ours more { type ipv4_addr; }"} {
		run(command)
		p := print()
		if before, same := seen[p]; same {
			t.Errorf("after %q it is as after %q", command, before)
		}
		seen[p] = command
	}
	run("delete table inet ours\ndelete table inet theirs")
	if print() != empty {
		t.Error("something is left")
	}
}

// Rules of others count, whatever is done to them; what they have counted, what
// sets hold and our own rules do not.
func TestRules(t *testing.T) {
	run := func(command string) {
		t.Helper()
		if _, err := nft.Run(t.Context(), command+"\n", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	print := func() uint64 {
		t.Helper()
		p, err := nft.Rules("ours")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	run(`table inet ours { chain c { accept; }; }
		table inet theirs {
			set s { type ipv4_addr; flags timeout; }
			chain c { type filter hook output priority 5; counter; ip daddr @s counter return; meta oif lo accept; }
		}`)
	before := print()
	run("add element inet theirs s { 127.0.0.1 timeout 9s }\nadd rule inet ours c drop\nadd table ip ours")
	c, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(make([]byte, 1))
	if out, err := nft.Run(t.Context(), "", "list", "chain", "inet", "theirs", "c"); err != nil || strings.Contains(out, "packets 0 ") {
		t.Fatalf("nothing is counted: %v\n%s", err, out)
	}
	if print() != before {
		t.Error("our own rules, an element, or what rules have counted are news")
	}
	seen := map[uint64]string{before: "nothing"}
	for _, command := range []string{
		"replace rule inet theirs c handle " + handle(t, "oif \"lo\"") + " meta oif lo drop",
		"add rule inet theirs c drop", "flush chain inet theirs c", "add chain inet theirs c { policy drop; }", "add chain inet theirs d",
		"delete table inet theirs\ntable inet theirs { chain c { accept; }; }",
		"delete table inet theirs\ntable inet theirs { chain c { accept; }; }", // which reads the same
	} {
		run(command)
		p := print()
		if what, same := seen[p]; same {
			t.Errorf("after %q it is as after %q", command, what)
		}
		seen[p] = command
	}
	run("delete table inet ours\ndelete table ip ours\ndelete table inet theirs")
}

// handle is that of the rule that says something.
func handle(t *testing.T, says string) string {
	t.Helper()
	out, err := nft.Run(t.Context(), "", "-a", "list", "ruleset")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if rule, handle, ok := strings.Cut(line, " # handle "); ok && strings.Contains(rule, says) {
			return strings.TrimSpace(handle)
		}
	}
	t.Fatalf("no rule says %s:\n%s", says, out)
	return ""
}
