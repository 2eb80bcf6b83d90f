// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Index makes a directory of packages a feed that opkg reads: it writes the
// files Packages and Packages.gz, and Packages.sig with a key that is not nil.
func Index(dir string, key *SigningKey) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.ipk"))
	if err != nil {
		return err
	}
	var index bytes.Buffer
	for _, name := range names {
		file, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		scripts, err := unpackIPK(file, "control")
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		// Descriptions, of several lines, stay at the end.
		head, description, _ := strings.Cut(string(scripts["control"].Data), "Description:")
		fmt.Fprintf(&index, "%sFilename: %s\nSize: %d\nSHA256sum: %x\nDescription:%s\n",
			head, filepath.Base(name), len(file), sha256.Sum256(file), description)
	}
	out := map[string][]byte{"Packages": index.Bytes(), "Packages.gz": compress(index.Bytes())}
	if key != nil {
		out["Packages.sig"] = key.Sign(index.Bytes())
	} else if err := os.Remove(filepath.Join(dir, "Packages.sig")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for name, data := range out {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
