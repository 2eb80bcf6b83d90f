// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const project = ".."

// build returns one of the packages, and whether it is too large, which is
// not what a test is about that calls this.
func build(t *testing.T, project, version, file string) []byte {
	t.Helper()
	for _, b := range Builds(version, 1_700_000_000) {
		if b.File() != file {
			continue
		}
		data, err := b.Make(project)
		if over := (*BudgetError)(nil); err != nil && !errors.As(err, &over) {
			t.Fatal(err)
		}
		return data
	}
	t.Fatalf("no package is called %s", file)
	return nil
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// output runs a command and returns what it prints.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// The tree in another place, with files of other dates and modes, makes the
// same packages.
func TestReproducible(t *testing.T) {
	elsewhere := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "LICENSE", "agent", "docs", "files", "luci", "mcp", "onpath", "openwrt", "transport"} {
		output(t, exec.Command("cp", "-r", filepath.Join(project, name), elsewhere))
	}
	err := filepath.WalkDir(elsewhere, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(name, info.Mode()&^0o077) // the umask of somebody careful
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"braid_1.0-r1_mipsel_24kc.ipk", "braid-mcp_1.0-r1_amd64.deb"} {
		if !bytes.Equal(build(t, project, "1.0", file), build(t, elsewhere, "1.0", file)) {
			t.Errorf("%s is another one when it is built elsewhere", file)
		}
	}
}

// What tar makes of an ipk.
func TestIPK(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "ipk", build(t, project, "1.0", "braid_1.0-r1_mipsel_24kc.ipk"))
	tar := func(args ...string) string {
		cmd := exec.Command("tar", args...)
		cmd.Dir = dir
		return output(t, cmd)
	}
	want := "./debian-binary\n./data.tar.gz\n./control.tar.gz\n"
	if diff := cmp.Diff(want, tar("-tzf", "ipk")); diff != "" {
		t.Errorf("members, -want +got:\n%s", diff)
	}
	tar("-xzf", "ipk")
	tar("-xzf", "control.tar.gz")
	control, err := os.ReadFile(filepath.Join(dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Package: braid", "Version: 1.0-r1", "Architecture: mipsel_24kc", "Section: net"} {
		if !slices.Contains(strings.Split(string(control), "\n"), line) {
			t.Errorf("control lacks %q:\n%s", line, control)
		}
	}
	owners := make(map[string]string)
	for _, line := range strings.Split(strings.TrimSpace(tar("-tvzf", "data.tar.gz")), "\n") {
		f := strings.Fields(line)
		owners[f[5]] = f[0] + " " + f[1]
	}
	for name, want := range map[string]string{
		"./":                 "drwxr-xr-x root/root",
		"./etc/config/":      "drwxr-xr-x root/root",
		"./etc/config/braid": "-rw------- root/root",
		"./etc/init.d/braid": "-rwxr-xr-x root/root",
		"./usr/sbin/braid":   "-rwxr-xr-x root/root",
	} {
		if owners[name] != want {
			t.Errorf("%s: %q, want %q", name, owners[name], want)
		}
	}
}

// Each ipk's scripts call what OpenWrt has for the purpose, and nothing in an
// image that is being made or on a system without it.
func TestScripts(t *testing.T) {
	dir := t.TempDir()
	name := write(t, dir, "braid.ipk", build(t, project, "1.0", "braid_1.0-r1_x86_64.ipk"))
	scripts, err := OpenControl(name)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	// As opkg does, which names scripts after packages.
	run := func(script string, env ...string) string {
		file := write(t, dir, "braid."+script, scripts[script].Data)
		cmd := exec.Command("sh", file, "argument")
		cmd.Env = append(os.Environ(), append(env, "IPKG_INSTROOT="+root)...)
		return strings.ReplaceAll(output(t, cmd), dir+"/", "")
	}
	if got := run("postinst") + run("prerm"); got != "" {
		t.Errorf("without functions.sh the scripts say %q", got)
	}
	write(t, root, "lib/functions.sh", []byte("default_postinst() { echo postinst \"$@\"; }\ndefault_prerm() { echo prerm \"$@\"; }\n"))
	for _, tt := range []struct{ name, got, want string }{
		{"postinst", run("postinst"), "postinst braid.postinst argument\n"},
		{"postinst, told not to", run("postinst", "IPKG_NO_SCRIPT=1"), ""},
		{"prerm", run("prerm"), "prerm braid.prerm argument\n"},
		{"of the package, into an image", run("postinst-pkg") + run("postrm"), ""},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, tt.got, tt.want)
		}
	}
}

// The life of a converter's package on the system that runs this test.
func TestDeb(t *testing.T) {
	dir := t.TempDir()
	old := write(t, dir, "old.deb", build(t, project, "1.0", "braid-mcp_1.0-r1_amd64.deb"))
	next := write(t, dir, "new.deb", build(t, project, "2.0", "braid-mcp_2.0-r1_amd64.deb"))
	cmd := exec.Command("testdata/deb.sh", old, next)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	t.Log(output(t, cmd))
}

func TestBudget(t *testing.T) {
	for _, tt := range []struct {
		size int
		most int64
		over bool
	}{{10, 0, false}, {10, 10, false}, {11, 10, true}} {
		var over *BudgetError
		if err := check("x", make([]byte, tt.size), tt.most); errors.As(err, &over) != tt.over {
			t.Errorf("%d of %d bytes: %v", tt.size, tt.most, err)
		}
	}
}

func TestLean(t *testing.T) {
	target, _ := Find("amd64")
	b := Build{Target: target, Package: Package{Program: "mcp/cmd/braid-mcp"}}
	if err := b.checkLean(project); err == nil || !strings.Contains(err.Error(), "which routers have no room for") {
		t.Errorf("a program that serves HTTP is lean: %v", err)
	}
	b.Program = "agent/cmd/braid"
	if err := b.checkLean(project); err != nil {
		t.Error(err)
	}
}
