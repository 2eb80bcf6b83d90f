// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func find(t *testing.T, name string) Build {
	t.Helper()
	version, epoch, err := Version(project)
	if err != nil {
		t.Fatal(err)
	}
	all := Builds(version, epoch)
	i := slices.IndexFunc(all, func(b Build) bool { return b.Name == name })
	if i < 0 {
		t.Fatalf("no package %s", name)
	}
	return all[i]
}

// LuCI's own rules make the same package of the page as we do, but for
// minifying it.
func TestFeedOfThePage(t *testing.T) {
	out := t.TempDir()
	buildroot, err := filepath.Abs("testdata/buildroot")
	if err != nil {
		t.Fatal(err)
	}
	output(t, exec.Command("make", "-s", "-C", "../openwrt/luci-app-braid", "TOPDIR="+buildroot, "OUT="+out))
	fact := func(name string) string { return strings.TrimSpace(read(t, filepath.Join(out, name))) }
	b := find(t, "luci-app-braid")
	for _, tt := range []struct{ name, feed, ours string }{
		{"version", fact("version"), b.FullVersion()},
		{"title", fact("title"), b.Summary},
		{"description", fact("description"), strings.TrimSpace(b.Description)},
		{"dependencies", fact("depends"), strings.Join(b.Depends, " ")},
		{"translations", filepath.Base(fact("po")), filepath.Base(find(t, "luci-i18n-braid-de").Messages)},
	} {
		if tt.feed != tt.ours {
			t.Errorf("%s: %q, in the feed %q", tt.name, tt.ours, tt.feed)
		}
	}
	ours, err := b.tree(project)
	if err != nil {
		t.Fatal(err)
	}
	feed, err := readDir(filepath.Join(out, "root"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ours.Paths(), feed.Paths()); diff != "" {
		t.Errorf("-ours +feed:\n%s", diff)
	}
	for _, name := range []string{"www/luci-static/resources/view/braid/status.js", "www/luci-static/resources/view/braid/settings.js",
		"www/luci-static/resources/view/status/include/45_braid.js", "usr/share/luci/menu.d/luci-app-braid.json", "usr/share/rpcd/acl.d/luci-app-braid.json"} {
		if _, ok := ours[name]; !ok {
			t.Errorf("no %s", name)
		}
	}
}

// What is installed drops LuCI's caches and has rpcd read its rules, on a
// router and not in an image that is being made.
func TestPageScripts(t *testing.T) {
	for _, b := range []Build{find(t, "luci-app-braid"), find(t, "luci-i18n-braid-de")} {
		file, err := b.Make(project)
		if err != nil {
			t.Fatal(err)
		}
		control, err := unpackIPK(file, "control")
		if err != nil {
			t.Fatal(err)
		}
		script, ok := control["postinst"]
		if !ok || script.Mode != 0o755 {
			t.Errorf("%s has no postinst: %v", b.Name, slices.Sorted(maps.Keys(control)))
		}
		if b.Name == "luci-app-braid" && !(strings.Contains(string(script.Data), "luci-indexcache") && strings.Contains(string(script.Data), "rpcd reload")) {
			t.Errorf("%s", script.Data)
		}
		if !strings.Contains(string(control["control"].Data), "Architecture: all\n") {
			t.Errorf("%s", control["control"].Data)
		}
	}
}

func TestTranslationIsShipped(t *testing.T) {
	tree, err := find(t, "luci-i18n-braid-de").tree(project)
	if err != nil {
		t.Fatal(err)
	}
	all, err := ReadLMO(tree["usr/lib/lua/luci/i18n/braid.de.lmo"].Data)
	if err != nil {
		t.Fatal(err)
	}
	if got := all[Hash("Lines")]; got != "Leitungen" || len(all) < 100 {
		t.Errorf("%q, %d texts", got, len(all))
	}
	if got := string(tree["etc/uci-defaults/luci-i18n-braid-de"].Data); got != "uci set luci.languages.de='Deutsch (German)'; uci commit luci\n" {
		t.Errorf("%q", got)
	}
}

// The hashes are those of LuCI's po2lmo.
func TestLMO(t *testing.T) {
	for text, want := range map[string]uint32{"Lines": 0x5c72c31c, "Round trip": 0xbc7ab301, "braid://… or address": 0x5b83c78a} {
		if got := Hash(text); got != want {
			t.Errorf("%q: %08x, not %08x", text, got, want)
		}
	}
	m, err := ReadPO("# a comment\nmsgid \"\"\nmsgstr \"\"\n\"Content-Type: text/plain\\n\"\n\n#: a.js\nmsgid \"Lines\"\nmsgstr \"\"\n\"Lei\"\n\"tungen\"\n\nmsgid \"same\"\nmsgstr \"same\"\n\nmsgid \"none\"\nmsgstr \"\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Messages{"Lines": "Leitungen", "same": "same", "none": ""}, m); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	file, err := m.LMO()
	if err != nil {
		t.Fatal(err)
	}
	all, err := ReadLMO(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[uint32]string{Hash("Lines"): "Leitungen"}, all); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, bad := range []string{"msgid Lines\n", "nonsense\n", "msgid \"a\n", "\"a\"\n", "msgctxt \"a\"\n"} {
		if _, err := ReadPO(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
	for _, bad := range [][]byte{nil, {0, 0, 0, 1}, append(make([]byte, 16), 0, 0, 0, 9), file[4:]} {
		if _, err := ReadLMO(bad); err == nil {
			t.Errorf("% x is read", bad)
		}
	}
}

func TestMinify(t *testing.T) {
	for in, want := range map[string]string{
		"a = b;\n":                         "a=b;",
		"var a\nvar b\n":                   "var a\nvar b",
		"a + +b - -c + d++ + e":            "a+ +b- -c+d++ +e",
		"return x // why\n + y":            "return x\n+y",
		"f('a  b', \"// c\", `d\n  e`)":    "f('a  b',\"// c\",`d\n  e`)",
		"x = /a  [/\"] \\/ b/.test(y) / 2": "x=/a  [/\"] \\/ b/.test(y)/2",
		"a /* b */ c":                      "a c",
		"if (a) {\n\treturn b;\n}\nelse c": "if(a){return b;}\nelse c",
		"é = 'ü'":                          "é='ü'",
	} {
		got, err := Minify([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v, not %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"'a", "/* a", "x = /a"} {
		if _, err := Minify([]byte(bad)); err == nil {
			t.Errorf("%q is minified", bad)
		}
	}
	if got := string(MinifyCSS([]byte("/* a */\n.b, .c { d: e; f: g h; }\n@media (x: 1) {\n\t.i { j: k; }\n}\n"))); got != ".b,.c{d:e;f:g h}@media (x:1){.i{j:k}}" {
		t.Errorf("%q", got)
	}
}
