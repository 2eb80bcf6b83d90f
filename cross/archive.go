// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"archive/tar"
	"bytes"
	"fmt"
	"path"
	"time"
)

// tarball packs files and the directories on the way to them, owned by root
// and of one date, in an order that follows from their names.
func tarball(t Tree, epoch int64) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := make(map[string]bool)
	var mkdir func(dir string) error
	mkdir = func(dir string) error {
		if made[dir] {
			return nil
		}
		if dir != "." {
			if err := mkdir(path.Dir(dir)); err != nil {
				return err
			}
		}
		made[dir] = true
		name := "./"
		if dir != "." {
			name += dir + "/"
		}
		return w.WriteHeader(header(name, tar.TypeDir, 0o755, 0, epoch))
	}
	for _, name := range t.Paths() {
		f := t[name]
		if err := mkdir(path.Dir(name)); err != nil {
			return nil, err
		}
		if err := w.WriteHeader(header("./"+name, tar.TypeReg, int64(f.Mode), len(f.Data), epoch)); err != nil {
			return nil, fmt.Errorf("packing %s: %w", name, err)
		}
		w.Write(f.Data) // to memory
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return compress(b.Bytes()), nil
}

// flat packs files that lie beside one another, in the order given.
func flat(epoch int64, members ...member) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		if err := w.WriteHeader(header("./"+m.name, tar.TypeReg, 0o644, len(m.data), epoch)); err != nil {
			return nil, fmt.Errorf("packing %s: %w", m.name, err)
		}
		w.Write(m.data) // to memory
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return compress(b.Bytes()), nil
}

// header is in the old format, which every unpacker reads.
func header(name string, kind byte, mode int64, size int, epoch int64) *tar.Header {
	return &tar.Header{
		Name: name, Typeflag: kind, Mode: mode, Size: int64(size), ModTime: time.Unix(epoch, 0),
		Uname: "root", Gname: "root", Format: tar.FormatUSTAR,
	}
}

const arMagic = "!<arch>\n"

// member is a file in an archive without directories.
type member struct {
	name string
	data []byte
}

// ar packs as ar(5) says.
func ar(epoch int64, members ...member) []byte {
	var b bytes.Buffer
	b.WriteString(arMagic)
	for _, m := range members {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, epoch, 0, 0, "100644", len(m.data))
		b.Write(m.data)
		if len(m.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}
