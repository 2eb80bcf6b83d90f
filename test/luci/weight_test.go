// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package luci

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"braid/cross"
)

// Both pages together, as they are shipped, weigh less than 60 kB.
func TestWeight(t *testing.T) {
	const most = 60_000
	web, err := cross.Web(filepath.Join(sources, "htdocs"))
	must(t, err)
	pages, all := 0, 0
	for name, f := range web {
		all += len(f.Data)
		if !strings.Contains(name, "status/include") {
			pages += len(f.Data)
		}
	}
	t.Logf("the pages weigh %d bytes, with the overview's card %d", pages, all)
	if pages > most {
		t.Errorf("the pages weigh %d bytes, and may weigh %d", pages, most)
	}
}

// What luci.mk's own tool makes of the page is what is shipped here. It is
// built from LUCI_SRC.
func TestMinifiedAsByLuCI(t *testing.T) {
	src := os.Getenv("LUCI_SRC")
	if src == "" {
		t.Log("without LUCI_SRC only that the minified page works is tested, elsewhere")
		return
	}
	jsmin := filepath.Join(t.TempDir(), "jsmin")
	if out, err := exec.Command("gcc", "-o", jsmin, filepath.Join(src, "modules/luci-base/src/jsmin.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	web, err := cross.Web(filepath.Join(sources, "htdocs"))
	must(t, err)
	for name, f := range web {
		if path.Ext(name) != ".js" {
			continue
		}
		in, err := os.Open(filepath.Join(sources, "htdocs", name))
		must(t, err)
		cmd := exec.Command(jsmin)
		cmd.Stdin = in
		out, err := cmd.Output()
		in.Close()
		must(t, err)
		if strings.TrimSpace(string(out)) != strings.TrimSpace(string(f.Data)) {
			t.Errorf("%s is another one", name)
		}
	}
}
