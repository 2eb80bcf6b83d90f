// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"crypto/md5"
	"fmt"
	"maps"
	"strings"
)

const (
	maintainer = "The braid authors"
	license    = "Apache-2.0"
)

// control is the description that a package manager reads, size in the
// format's unit.
func (b Build) control(size int64) string {
	var s strings.Builder
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&s, "%s: %s\n", name, value)
		}
	}
	field("Package", b.Name)
	field("Version", b.FullVersion())
	field("Depends", strings.Join(b.Depends, ", "))
	if b.Format == IPK {
		field("Source", b.Name)
		field("License", license)
	}
	field("Section", b.Section)
	if b.Format == Deb {
		field("Priority", "optional")
	}
	field("Architecture", b.Architecture())
	field("Maintainer", maintainer)
	field("Installed-Size", fmt.Sprint(size))
	field("Description", b.Summary)
	s.WriteString(b.Description)
	return s.String()
}

// ipk is a tarball of tarballs, in the order of OpenWrt's own.
func (b Build) ipk(files, scripts Tree) ([]byte, error) {
	control := maps.Clone(scripts)
	control["control"] = File{[]byte(b.control(files.Size())), 0o644}
	if len(b.Conffiles) > 0 {
		control["conffiles"] = File{b.conffiles(), 0o644}
	}
	data, err := tarball(files, b.Epoch)
	if err != nil {
		return nil, err
	}
	ctl, err := tarball(control, b.Epoch)
	if err != nil {
		return nil, err
	}
	return flat(b.Epoch, member{"debian-binary", []byte("2.0\n")}, member{"data.tar.gz", data}, member{"control.tar.gz", ctl})
}

// deb is an archive of tarballs, see deb(5).
func (b Build) deb(files, scripts Tree) ([]byte, error) {
	control := maps.Clone(scripts)
	control["control"] = File{[]byte(b.control((files.Size() + 1023) / 1024)), 0o644}
	var sums strings.Builder
	for _, name := range files.Paths() {
		fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(files[name].Data), name)
	}
	control["md5sums"] = File{[]byte(sums.String()), 0o644}
	if len(b.Conffiles) > 0 {
		control["conffiles"] = File{b.conffiles(), 0o644}
	}
	data, err := tarball(files, b.Epoch)
	if err != nil {
		return nil, err
	}
	ctl, err := tarball(control, b.Epoch)
	if err != nil {
		return nil, err
	}
	return ar(b.Epoch, member{"debian-binary", []byte("2.0\n")}, member{"control.tar.gz", ctl}, member{"data.tar.gz", data}), nil
}

func (b Build) conffiles() []byte {
	var s strings.Builder
	for _, c := range b.Conffiles {
		fmt.Fprintf(&s, "/%s\n", c)
	}
	return []byte(s.String())
}
