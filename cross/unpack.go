// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Open reads the files that a package installs.
func Open(name string) (Tree, error) { return open(name, "data") }

// OpenControl reads the files that are for the package manager.
func OpenControl(name string) (Tree, error) { return open(name, "control") }

func open(name, part string) (t Tree, err error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	switch f := Format(filepath.Ext(name)); f {
	case "." + IPK:
		t, err = unpackIPK(raw, part)
	case "." + Deb:
		t, err = unpackDeb(raw, part)
	default:
		err = fmt.Errorf("no packages of format %q are known", f)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return t, nil
}

func unpackIPK(raw []byte, part string) (Tree, error) {
	outer, err := untar(raw)
	if err != nil {
		return nil, err
	}
	return untar(outer[part+".tar.gz"].Data)
}

func unpackDeb(raw []byte, part string) (Tree, error) {
	const headLen, nameLen, sizeAt, sizeLen = 60, 16, 48, 10
	rest, ok := bytes.CutPrefix(raw, []byte(arMagic))
	for ok && len(rest) >= headLen {
		name := strings.TrimSpace(string(rest[:nameLen]))
		size, err := strconv.Atoi(strings.TrimSpace(string(rest[sizeAt:][:sizeLen])))
		rest = rest[headLen:]
		if err != nil || size < 0 || size > len(rest) {
			break
		}
		if name == part+".tar.gz" {
			return untar(rest[:size])
		}
		rest = rest[min(size+size%2, len(rest)):]
	}
	return nil, fmt.Errorf("there is no %s.tar.gz", part)
}

// untar reads the files of a compressed tarball.
func untar(tgz []byte) (Tree, error) {
	z, err := gzip.NewReader(bytes.NewReader(tgz))
	if err != nil {
		return nil, err
	}
	t := make(Tree)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		t[strings.TrimPrefix(h.Name, "./")] = File{data, fs.FileMode(h.Mode)}
	}
}
