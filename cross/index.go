// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
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
		control, err := control(file)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		// Descriptions, of several lines, stay at the end.
		head, description, _ := strings.Cut(control, "Description:")
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

// control is the description in an ipk.
func control(ipk []byte) (string, error) {
	outer, err := Unpack(ipk)
	if err != nil {
		return "", err
	}
	inner, err := Unpack(outer["control.tar.gz"].Data)
	return string(inner["control"].Data), err
}

// Unpack reads the files of a compressed tarball.
func Unpack(tgz []byte) (Tree, error) {
	z, err := gzip.NewReader(bytes.NewReader(tgz))
	if err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	t := make(Tree)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("unpacking: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", h.Name, err)
		}
		t[strings.TrimPrefix(h.Name, "./")] = File{data, fs.FileMode(h.Mode)}
	}
}
