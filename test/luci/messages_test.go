// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package luci

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"braid/cross"
)

var update = flag.Bool("update", false, "write po/templates/braid.pot anew")

const (
	sources  = project + "/luci"
	template = sources + "/po/templates/braid.pot"
)

// message is a string literal within _().
var message = regexp.MustCompile(`\b_\('((?:[^'\\]|\\.)*)'\)`)

// collect lists what is to be translated, with the files where it is said: what
// LuCI's own build/i18n-scan.pl finds.
func collect(t *testing.T) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	must(t, filepath.WalkDir(sources, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(sources, name)
		switch filepath.Ext(name) {
		case ".js":
			for _, m := range message.FindAllStringSubmatch(string(raw), -1) {
				id := strings.ReplaceAll(m[1], `\'`, `'`)
				all[id] = append(all[id], rel)
			}
		case ".json":
			var v map[string]map[string]any
			if err := json.Unmarshal(raw, &v); err != nil {
				return err
			}
			for _, entry := range v {
				for _, key := range []string{"title", "description"} {
					if id, ok := entry[key].(string); ok {
						all[id] = append(all[id], rel)
					}
				}
			}
		}
		return nil
	}))
	return all
}

func potText(all map[string][]string) string {
	var b strings.Builder
	b.WriteString("msgid \"\"\nmsgstr \"Content-Type: text/plain; charset=UTF-8\"\n")
	for _, id := range slices.Sorted(maps.Keys(all)) {
		places := slices.Compact(slices.Sorted(slices.Values(all[id])))
		fmt.Fprintf(&b, "\n#: %s\nmsgid %q\nmsgstr \"\"\n", strings.Join(places, "\n#: "), id)
	}
	return b.String()
}

func TestTemplateIsCurrent(t *testing.T) {
	want := potText(collect(t))
	if *update {
		must(t, os.WriteFile(template, []byte(want), 0o644))
	}
	got, err := os.ReadFile(template)
	must(t, err)
	if string(got) != want {
		t.Errorf("%s is not current: go test ./test/luci -run %s -update", template, t.Name())
	}
}

// German is complete, says nothing that is not asked, and keeps what is filled
// in.
func TestGermanIsComplete(t *testing.T) {
	raw, err := os.ReadFile(sources + "/po/de/braid.po")
	must(t, err)
	german, err := cross.ReadPO(string(raw))
	must(t, err)
	all := collect(t)
	holes := regexp.MustCompile(`\{\w+\}|%[ds]`)
	for id := range all {
		switch text := german[id]; {
		case text == "":
			t.Errorf("%q is not translated", id)
		case !slices.Equal(slices.Sorted(slices.Values(holes.FindAllString(id, -1))), slices.Sorted(slices.Values(holes.FindAllString(text, -1)))):
			t.Errorf("%q does not keep what is filled in: %q", id, text)
		}
	}
	for id := range german {
		if all[id] == nil {
			t.Errorf("%q is translated and not said", id)
		}
	}
}
