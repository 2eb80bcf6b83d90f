// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
)

// Types of files, as in stat(2).
const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
)

// initramfs is a root directory as the kernel unpacks it: cpio in the format
// "newc", see the kernel's buffer-format.rst.
type initramfs map[string]file

func (r initramfs) pack() []byte {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is one
	}
	c := &cpio{w: z}
	made := map[string]bool{".": true}
	var mkdir func(dir string)
	mkdir = func(dir string) {
		if !made[dir] {
			made[dir] = true
			mkdir(path.Dir(dir))
			c.add(dir, typeDir|0o755, nil)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r)) {
		f := r[name]
		mkdir(path.Dir(name))
		if f.link != "" {
			c.add(name, typeLink|0o777, []byte(f.link))
		} else {
			c.add(name, typeFile|f.mode, f.data)
		}
	}
	c.add("TRAILER!!!", 0, nil)
	z.Close()
	return b.Bytes()
}

// cpio writes to memory, which does not fail.
type cpio struct {
	w      *gzip.Writer
	inodes int
}

func (c *cpio) add(name string, mode fs.FileMode, data []byte) {
	c.inodes++
	const links = 1
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.inodes, uint32(mode), 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	c.padded([]byte(head))
	c.padded(data)
}

// padded aligns the end to 4 bytes.
func (c *cpio) padded(b []byte) {
	c.w.Write(b)
	c.w.Write(make([]byte, -len(b)&3))
}
