// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// OpenWrt's buildroot makes the same package as we do: openwrt/braid/Makefile
// is run with as much of a buildroot as it needs, in testdata.
func TestFeed(t *testing.T) {
	out := t.TempDir()
	buildroot, err := filepath.Abs("testdata/buildroot")
	if err != nil {
		t.Fatal(err)
	}
	output(t, exec.Command("make", "-s", "-C", "../openwrt/braid", "TOPDIR="+buildroot, "OUT="+out))
	fact := func(name string) string {
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(string(b), "\n")
	}

	version, epoch, err := Version(project)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(Builds(version, epoch), func(b Build) bool { return b.Name == "braid" })
	b := Builds(version, epoch)[i]
	depends := strings.Fields(fact("depends"))
	slices.Sort(depends)
	scripts, err := readDir(filepath.Join(project, b.Scripts))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, feed, ours string }{
		{"name", fact("name"), b.Name},
		{"version", fact("version"), b.FullVersion()},
		{"section", fact("section"), b.Section},
		{"title", fact("title"), b.Summary},
		{"description", fact("description") + "\n", b.Description},
		{"dependencies", strings.Join(depends, "\n"), strings.Join(slices.Sorted(slices.Values(b.Depends)), "\n")},
		{"conffiles", fact("conffiles") + "\n", string(b.conffiles())},
		{"program", fact("program"), "braid/" + b.Program + " main.version=" + version},
		{"postinst-pkg", fact("postinst-pkg"), code(scripts["postinst-pkg"])},
		{"postrm", fact("postrm"), code(scripts["postrm"])},
	} {
		if diff := cmp.Diff(tt.ours, tt.feed); diff != "" {
			t.Errorf("%s, -ours +feed:\n%s", tt.name, diff)
		}
	}

	ours, err := b.tree(project)
	if err != nil {
		t.Fatal(err)
	}
	feed := modes(t, filepath.Join(out, "root"))
	for name, f := range ours {
		if mode, ok := feed[name]; !ok || mode != f.Mode.String() {
			t.Errorf("%s: mode %v, in the feed %q", name, f.Mode, mode)
		} else if name != b.Bin && string(f.Data) != read(t, filepath.Join(out, "root", name)) {
			t.Errorf("%s has another content in the feed", name)
		}
		delete(feed, name)
	}
	if len(feed) > 0 {
		t.Errorf("only the feed has %v", feed)
	}
}

// OpenWrt's own test of the package passes with the program that the feed makes
// of it, and not with another's.
func TestPackageTest(t *testing.T) {
	bin := t.TempDir()
	output(t, exec.Command("go", "build", "-ldflags", "-X main.version=1.0", "-o", bin, "braid/agent/cmd/braid"))
	for version, fails := range map[string]bool{"1.0": false, "2.0": true} {
		cmd := exec.Command("sh", "../openwrt/braid/test.sh", "braid", version)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); (err != nil) != fails {
			t.Errorf("test.sh braid %s: %v\n%s", version, err, out)
		}
	}
}

// code is a script without comments.
func code(f File) string {
	lines := strings.Split(strings.TrimSuffix(string(f.Data), "\n"), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "#") && !strings.HasPrefix(l, "#!")
	}), "\n")
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// modes are those of all files below a directory.
func modes(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := make(map[string]string)
	out := output(t, exec.Command("find", dir, "-type", "f"))
	for _, name := range strings.Fields(out) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		m[rel] = info.Mode().Perm().String()
	}
	return m
}
