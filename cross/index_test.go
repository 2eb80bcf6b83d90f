// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// luci stands for packages that are the same for all.
func luci(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"root/www", "scripts"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, "root/www/page.js", []byte("'use strict';\n"))
	b := Build{
		Package: Package{
			Name: "luci-app-x", Format: IPK, Section: "luci", Summary: "A page", Description: " Of two\n lines.\n",
			Depends: []string{"a", "b"}, Root: "root", Scripts: "scripts",
		},
		Version: "3", Epoch: 1_700_000_000,
	}
	file, err := b.Make(dir)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// key writes a secret key as usign does.
func key(t *testing.T, dir string, rounds byte) (file string, public ed25519.PublicKey) {
	t.Helper()
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(secret)
	raw := slices.Concat([]byte("EdBK"), []byte{0, 0, 0, rounds}, make([]byte, 16), sum[:8], []byte("identity"), secret)
	text := "untrusted comment: private key\n" + base64.StdEncoding.EncodeToString(raw) + "\n"
	return write(t, dir, "key", []byte(text)), public
}

func TestIndex(t *testing.T) {
	dir := t.TempDir()
	ipk := luci(t)
	write(t, dir, "luci-app-x_3-r1_all.ipk", ipk)
	file, public := key(t, t.TempDir(), 0)
	k, err := ReadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := Index(dir, k); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`Package: luci-app-x
Version: 3-r1
Depends: a, b
Source: luci-app-x
License: Apache-2.0
Section: luci
Architecture: all
Maintainer: The braid authors
Installed-Size: 14
Filename: luci-app-x_3-r1_all.ipk
Size: %d
SHA256sum: %x
Description: A page
 Of two
 lines.

`, len(ipk), sha256.Sum256(ipk))
	index := read(t, filepath.Join(dir, "Packages"))
	if diff := cmp.Diff(want, index); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	comment, line, _ := strings.Cut(read(t, filepath.Join(dir, "Packages.sig")), "\n")
	if want := fmt.Sprintf("untrusted comment: signed by key %x", "identity"); comment != want {
		t.Errorf("comment %q, want %q", comment, want)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	signature, ok := bytes.CutPrefix(raw, []byte("Ed"+"identity"))
	if !ok || !ed25519.Verify(public, []byte(index), signature) {
		t.Errorf("the signature %q does not hold", raw)
	}

	// A signature of old must not stay with a new index.
	if err := Index(dir, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "Packages.sig")); !os.IsNotExist(err) {
		t.Errorf("the old signature is still there: %v", err)
	}
}

func TestReadKey(t *testing.T) {
	dir := t.TempDir()
	secret, _ := key(t, dir, 42)
	for _, tt := range []struct{ name, file, want string }{
		{"none", filepath.Join(dir, "none"), "no such file"},
		{"with a passphrase", secret, "passphrase"},
		{"of another kind", write(t, dir, "other", []byte("comment\nRWQ=\n")), "not a secret key"},
		{"no base64", write(t, dir, "text", []byte("comment\n???\n")), "illegal base64"},
	} {
		if _, err := ReadKey(tt.file); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want one that says %q", tt.name, err, tt.want)
		}
	}
}
