// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// Release counts the packages made of one version.
const Release = "r1"

// A Format is a kind of package.
type Format string

const (
	IPK Format = "ipk"
	Deb Format = "deb"
)

// Package is what a user installs, for any number of targets.
type Package struct {
	Name        string
	Format      Format
	Targets     []string // names; none: one package for all
	Section     string
	Summary     string // one line
	Description string // indented lines
	Depends     []string

	Program   string // its directory; empty: none
	Bin       string // where it is installed
	Lean      bool   // neither HTTP nor TLS is linked in
	Root      string // directory that mirrors the root of the target
	Web       string // directory that mirrors /www and is minified; empty: none
	Messages  string // file of translations, LANGUAGE/NAME.po
	Man       []string
	Conffiles []string // of Root; for the administrator to change, and nobody else to read
	Scripts   string   // directory of maintainer scripts
}

// Packages is all of them, directories being those of the project.
var Packages = []Package{
	{
		Name:    "braid",
		Format:  IPK,
		Targets: []string{"mipsel", "mips", "arm", "arm64", "amd64"},
		Section: "net",
		Summary: "One connection out of many, by Multipath TCP",
		Description: ` Carries the TCP of a LAN over all WANs at once, through a converter
 (RFC 8803) or straight to servers that speak Multipath TCP.
`,
		Depends: []string{
			"kmod-nft-dup-inet", "kmod-nft-fib", "kmod-nft-nat", "kmod-nft-socket", "kmod-nft-tproxy", "kmod-nf-conntrack-netlink", "kmod-nfnetlink-log",
			"kmod-tcp-bbr", "kmod-tun", "nftables-json",
		},
		Program:   "agent/cmd/braid",
		Bin:       "usr/sbin/braid",
		Lean:      true,
		Root:      "files",
		Conffiles: []string{"etc/config/braid"},
		Scripts:   "openwrt/scripts",
	},
	{
		Name:    "luci-app-braid",
		Format:  IPK,
		Section: "luci",
		Summary: "LuCI page of braid",
		Description: ` Status and settings of braid in the web interface of the router.
`,
		Depends: []string{"braid", "luci-base"},
		Root:    "luci/root",
		Web:     "luci/htdocs",
		Scripts: "openwrt/luci-app-braid/scripts",
	},
	{
		Name:    "luci-i18n-braid-de",
		Format:  IPK,
		Section: "luci",
		Summary: "LuCI page of braid, in German",
		Description: ` Translation of luci-app-braid.
`,
		Depends:  []string{"luci-app-braid"},
		Messages: "luci/po/de/braid.po",
		Scripts:  "openwrt/luci-i18n-braid/scripts",
	},
	{
		Name:    "braid-mcp",
		Format:  Deb,
		Targets: []string{"amd64", "arm64"},
		Section: "net",
		Summary: "Multipath TCP converter for braid gateways",
		Description: ` The network side of braid: a Transport Converter (RFC 8803) that takes
 the Multipath TCP of gateways and speaks TCP to servers on their behalf.
`,
		Depends: []string{"adduser"},
		Program: "mcp/cmd/braid-mcp",
		Bin:     "usr/bin/braid-mcp",
		Root:    "mcp/packaging/root",
		Man:     []string{"docs/man/braid-mcp.*"},
		Scripts: "mcp/packaging/debian",
	},
}

// A Build is one package for one target.
type Build struct {
	Package
	Target  Target // the zero one: all
	Version string
	Epoch   int64 // date of every file, seconds
}

// Builds lists what is to be made, in the order of the tables. With names,
// only for targets of these.
func Builds(version string, epoch int64, only ...string) []Build {
	var all []Build
	for _, p := range Packages {
		targets := p.Targets
		if len(targets) == 0 {
			targets = []string{""}
		}
		for _, name := range targets {
			t, ok := Find(name)
			if !ok && name != "" {
				panic(fmt.Sprintf("package %s is for %q, which is no target", p.Name, name))
			}
			if len(only) == 0 || slices.Contains(only, name) {
				all = append(all, Build{p, t, version, epoch})
			}
		}
	}
	return all
}

// Architecture is what the format calls the target.
func (b Build) Architecture() string {
	switch {
	case b.Target.Name == "":
		return "all"
	case b.Format == Deb:
		return b.Target.Debian
	}
	return b.Target.OpenWrt
}

// FullVersion is the version with the release.
func (b Build) FullVersion() string { return b.Version + "-" + Release }

// File is the name of the package's file.
func (b Build) File() string {
	return fmt.Sprintf("%s_%s_%s.%s", b.Name, b.FullVersion(), b.Architecture(), b.Format)
}

// Make builds the program and returns the package. It is the same to the byte
// for the same tree and version. What is too large is returned beside a
// *BudgetError.
func (b Build) Make(project string) ([]byte, error) {
	tree, err := b.tree(project)
	if err != nil {
		return nil, err
	}
	scripts, err := readDir(filepath.Join(project, b.Scripts))
	if err != nil {
		return nil, err
	}
	var file []byte
	switch b.Format {
	case IPK:
		file, err = b.ipk(tree, scripts)
	case Deb:
		file, err = b.deb(tree, scripts)
	default:
		err = fmt.Errorf("no packages of format %q are known", b.Format)
	}
	if err != nil {
		return nil, err
	}
	return file, errors.Join(
		check(b.Target.Name+": "+b.Bin, tree[b.Bin].Data, b.Target.Budget.Program),
		check(b.File(), file, b.Target.Budget.Package))
}
