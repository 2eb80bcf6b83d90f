// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// suite is the last of Debian's that has a mipsel.
const suite = "bookworm"

// debian is a set of packages of one of Debian's architectures.
type debian struct {
	arch string
	dir  string // of a private apt
}

// files downloads a kernel, which the package named depends on, and nft with
// all that it needs, and returns what these packages hold. What was once
// downloaded is used again.
func (d debian) files(kernel string) (*system, error) {
	archives := filepath.Join(d.dir, "archives")
	complete := filepath.Join(d.dir, "complete")
	if _, err := os.Stat(complete); errors.Is(err, fs.ErrNotExist) {
		if err := d.download(archives, kernel); err != nil {
			return nil, fmt.Errorf("downloading packages for %s: %w", d.arch, err)
		}
		if err := os.WriteFile(complete, nil, 0o644); err != nil {
			return nil, err
		}
	}
	debs, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return nil, err
	}
	s := &system{files: make(map[string]file)}
	for _, deb := range debs {
		if err := s.unpack(deb); err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", deb, err)
		}
	}
	return s, nil
}

func (d debian) download(archives, kernel string) error {
	for _, dir := range []string{filepath.Join(d.dir, "lists", "partial"), filepath.Join(archives, "partial")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	mirror, err := mirror()
	if err != nil {
		return err
	}
	sources := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + mirror + " " + suite + " main\n"
	config := fmt.Sprintf(`
Dir::State %[1]q;
Dir::State::lists "lists";
Dir::State::status "/dev/null";
Dir::Cache %[1]q;
Dir::Etc %[1]q;
APT::Architecture %[2]q;
APT::Architectures { %[2]q; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
`, d.dir, d.arch)
	err = errors.Join(
		os.WriteFile(filepath.Join(d.dir, "sources.list"), []byte(sources), 0o644),
		os.WriteFile(filepath.Join(d.dir, "apt.conf"), []byte(config), 0o644))
	if err != nil {
		return err
	}
	if _, err := d.apt("apt-get", "-qq", "update"); err != nil {
		return err
	}
	depends, err := d.apt("apt-cache", "depends", kernel)
	if err != nil {
		return err
	}
	image := regexp.MustCompile(`Depends: (linux-image-\S+)`).FindStringSubmatch(depends)
	if image == nil {
		return fmt.Errorf("%s depends on no kernel: %s", kernel, depends)
	}
	if _, err := d.apt("apt-get", "-qq", "-y", "--download-only", "install", "nftables"); err != nil {
		return err
	}
	// Without what a kernel needs to be installed.
	cmd := d.command("apt-get", "-qq", "download", image[1])
	cmd.Dir = archives
	_, err = output(cmd)
	return err
}

// mirror is where this machine gets Debian from.
func mirror() (string, error) {
	uris, err := output(exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"))
	if err != nil {
		return "", err
	}
	for uri := range strings.FieldsSeq(uris) {
		if path.Base(uri) == "debian" {
			return uri, nil
		}
	}
	return "", errors.New("apt of this machine knows no mirror of Debian")
}

func (d debian) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(d.dir, "apt.conf"), "LC_ALL=C")
	return cmd
}

func (d debian) apt(name string, args ...string) (string, error) {
	return output(d.command(name, args...))
}

func output(cmd *exec.Cmd) (string, error) {
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", cmd, err, &errs)
	}
	return string(out), err
}

// system is what packages install.
type system struct {
	kernel []byte
	files  map[string]file // libraries, nft, kernel modules
}

type file struct {
	data []byte
	mode fs.FileMode
	link string // target of a symbolic link
}

var wanted = regexp.MustCompile(`^(usr/)?lib/.*\.so[.0-9]*$|^usr/sbin/nft$|^lib/modules/[^/]+/(kernel/(arch|crypto|drivers/net|lib|net)/.*\.ko|modules\.builtin)$`)

func (s *system) unpack(deb string) error {
	out, err := output(exec.Command("dpkg-deb", "--fsys-tarfile", deb))
	if err != nil {
		return err
	}
	for r := tar.NewReader(strings.NewReader(out)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		var data bytes.Buffer
		if _, err := io.Copy(&data, r); err != nil {
			return err
		}
		switch {
		case strings.HasPrefix(name, "boot/vmlinu"):
			s.kernel = data.Bytes()
		case wanted.MatchString(name):
			s.files[name] = file{data.Bytes(), h.FileInfo().Mode().Perm(), h.Linkname}
		}
	}
}
