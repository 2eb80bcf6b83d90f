// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package dnsmasq

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Somebody else's file fills a set for a domain that a rule names too: either
// the real server fills both sets, or the file is named.
func TestOthersDomain(t *testing.T) {
	for _, tt := range []struct {
		file, text string
		both       bool // sets are filled, and nothing is to be said
	}{
		{"a.conf", "nftset=/bank.example/4#inet#t#theirs", false},
		{"z.conf", "nftset=/bank.example/4#inet#t#theirs", false},
		{"z.conf", "nftset=/other.example/www.bank.example/4#inet#t#theirs", false},
		{"z.conf", "nftset=/example/4#inet#t#theirs", false},
		{"z.conf", "  nftset = /BANK.example/4#inet#t#theirs", false},
		{"z.conf", "nftset=/ank.example/4#inet#t#theirs\nserver=/bank.example/127.0.0.1#5353", true},
		{"z.conf", "ipset=/bank.example/theirs", true},
		{"z.other", "nftset=/bank.example/4#inet#t#theirs", true}, // which dnsmasq does not read
		{".z.conf", "nftset=/bank.example/4#inet#t#theirs", true},
	} {
		t.Run(tt.file+": "+tt.text, func(t *testing.T) {
			sh(t, "nft 'table inet t { set ours { type ipv4_addr; }; set theirs { type ipv4_addr; }; }'")
			defer sh(t, "nft delete table inet t")
			i := run(t)
			i.resolved(t, 1, nil)
			path := filepath.Join(i.dir, tt.file)
			must(t, os.WriteFile(path, []byte(tt.text+"\n"), 0o644))
			lines, err := Lines("nftset", []Names{{[]string{"bank.example"}, "4#inet#t#ours"}})
			must(t, err)
			err = i.Apply(t.Context(), lines)
			if named := err != nil && strings.Contains(err.Error(), path); named == tt.both {
				t.Errorf("%v", err)
			}
			if !tt.both {
				must(t, os.Remove(path))
			}
			i.resolved(t, 2, lines)
			if set := sh(t, "nft list set inet t ours"); !strings.Contains(set, bankAddr) {
				t.Errorf("not filled: %s", set)
			}
		})
	}
}
