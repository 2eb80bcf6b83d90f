// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// File is a file in a package.
type File struct {
	Data []byte
	Mode fs.FileMode
}

// Tree is the files of a package by their paths below the root.
type Tree map[string]File

// Paths are in order.
func (t Tree) Paths() []string { return slices.Sorted(maps.Keys(t)) }

// Size is that of all files, in bytes.
func (t Tree) Size() (n int64) {
	for _, f := range t {
		n += int64(len(f.Data))
	}
	return n
}

// tree collects what is in the package.
func (b Build) tree(project string) (Tree, error) {
	t := make(Tree)
	if b.Root != "" {
		var err error
		if t, err = readDir(filepath.Join(project, b.Root)); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(b.addWeb(project, t), b.addMessages(project, t)); err != nil {
		return nil, err
	}
	for _, c := range b.Conffiles {
		f, ok := t[c]
		if !ok {
			return nil, fmt.Errorf("%s: configuration %s is not below %s", b.Name, c, b.Root)
		}
		// Whoever can read a cookie can use it.
		t[c] = File{f.Data, 0o600}
	}
	if b.Program != "" {
		program, err := b.program(project)
		if err != nil {
			return nil, err
		}
		t[b.Bin] = File{program, 0o755}
	}
	if b.Format == Deb {
		license, err := os.ReadFile(filepath.Join(project, "LICENSE"))
		if err != nil {
			return nil, err
		}
		t[path.Join("usr/share/doc", b.Name, "copyright")] = File{license, 0o644}
	}
	return t, b.addMan(project, t)
}

// addMan adds manual pages, compressed as is the custom.
func (b Build) addMan(project string, t Tree) error {
	for _, pattern := range b.Man {
		pages, err := filepath.Glob(filepath.Join(project, pattern))
		if err != nil {
			return err
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				return err
			}
			name := filepath.Base(page)
			section := path.Ext(name)[1:]
			t[path.Join("usr/share/man", "man"+section, name+".gz")] = File{compress(text), 0o644}
		}
	}
	return nil
}

// readDir reads all files below a directory. Of their modes only that of
// executing counts, which is all that git keeps.
func readDir(dir string) (Tree, error) {
	t := make(Tree)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", name)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		t[filepath.ToSlash(rel)] = File{data, mode}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading files of a package: %w", err)
	}
	return t, nil
}

// compress is gzip without a date or a name.
func compress(data []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is one
	}
	w.Write(data) // to memory
	w.Close()
	return b.Bytes()
}
