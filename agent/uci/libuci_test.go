// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

//go:build openwrt

package uci

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// pieces are what random files are made of.
var pieces = strings.Split(`config|config|option|option|list|package|c|o|l|p|wan|wan|rule|a|a|b|x|x|y|1|it's|'|'|"|"|'1'|"2"|''|'a b'|\|;|;|#|`+
	" | | |\t|\n|\n|\n|\r\n|\v|\\\n|\\\r\n|\\\"|\\'|'\\''|-|.|ü|\x01|config wan 'a'\n|\toption x 'a'\n|\tlist y '1'\n|config rule\n|option y ", "|")

// Random files are read, or refused, as libuci does it. UCI names OpenWrt's uci.
func TestAgainstLibuci(t *testing.T) {
	program := os.Getenv("UCI")
	if program == "" {
		t.Fatal("UCI does not name OpenWrt's uci")
	}
	empty := regexp.MustCompile(`''( |$)`)
	random := rand.New(rand.NewPCG(1, 2))
	read := 0
	for i := range 20000 {
		var b strings.Builder
		if random.IntN(4) > 0 {
			b.WriteString("config wan 'a'\n")
		}
		for range random.IntN(14) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		text := b.String()
		dir := write(t, text)
		out, refused := exec.Command(program, "-c", dir, "-p", dir+"/none", "show", "braid").Output()
		p, err := Load(dir, "braid")
		if (err != nil) != (refused != nil) {
			t.Errorf("%d: %q: we say %v, libuci %v: %s", i, text, err, refused, out)
			continue
		}
		if err != nil {
			continue
		}
		read++
		var want []string
		for line := range strings.SplitSeq(strings.ReplaceAll(string(out), "\nbraid.", "\x00"), "\x00") {
			line = strings.TrimSuffix(strings.TrimPrefix(line, "braid."), "\n")
			if _, value, _ := strings.Cut(line, "="); strings.HasPrefix(value, "'") && strings.HasSuffix(line, "'") && !strings.Contains(value, `\`) && empty.MatchString(value) {
				continue // a list with empty values, which we leave out
			}
			want = append(want, line)
		}
		if got := strings.TrimSuffix(show(p.Sections), "\n"); !strings.Contains(string(out), "''") && got != strings.Join(want, "\n") {
			t.Errorf("%d: %q:\nwe   %q\nuci  %q", i, text, got, strings.Join(want, "\n"))
		}
	}
	t.Logf("%d files of 20000 were read by both", read)
}
