// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"path"
	"strings"
)

// needed is what braid and the laboratory need of a kernel, beside what every
// kernel has built in.
var needed = []string{
	"crc32c_generic", // else nf_tables does not load on 32 bits
	"sch_tbf", "tun", "veth",
	"nf_tables", "nft_ct", "nft_tproxy", "nft_socket", "nft_dup_ipv4", "nft_dup_ipv6",
	"nft_fib_inet", "nft_hash", "nft_numgen", "nft_reject_inet", "nft_chain_nat", "nft_masq", "nft_nat",
	"nf_conntrack_netlink",
}

// modules lists the files of the needed modules and of those that they depend
// on, in the order in which they can be loaded.
func (s *system) modules() (files [][]byte, err error) {
	byName := make(map[string][]byte)
	builtin := make(map[string]bool)
	for name, f := range s.files {
		switch {
		case path.Ext(name) == ".ko":
			byName[moduleName(name)] = f.data
		case path.Base(name) == "modules.builtin":
			for in := bufio.NewScanner(bytes.NewReader(f.data)); in.Scan(); {
				builtin[moduleName(in.Text())] = true
			}
		}
	}
	done := make(map[string]bool)
	var add func(name string) error
	add = func(name string) error {
		if done[name] || builtin[name] {
			return nil
		}
		done[name] = true
		image, ok := byName[name]
		if !ok {
			return fmt.Errorf("the kernel has no module %s", name)
		}
		depends, err := dependencies(image)
		if err != nil {
			return fmt.Errorf("reading module %s: %w", name, err)
		}
		for _, d := range depends {
			if err := add(d); err != nil {
				return err
			}
		}
		files = append(files, image)
		return nil
	}
	for _, name := range needed {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// moduleName is what a file holds: - and _ are the same to the kernel.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_")
}

// dependencies reads the key depends of a module's .modinfo.
func dependencies(image []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for _, entry := range strings.Split(string(info), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}
