// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package dnsmasq

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stamp is what a file's content is known by.
type stamp struct {
	path string
	size int64
	at   time.Time
}

// stampOf takes that of a file.
func stampOf(path string) (stamp, error) {
	i, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{path, i.Size(), i.ModTime()}, nil
}

// foreign is what a file of somebody else's says: the domains for which it
// fills sets, by option.
type foreign map[string][]string

// rivals says which files fill sets for a domain of the lines, or for one
// above or below: dnsmasq heeds a single line for a name, that of the longest
// domain, so that the other's set stays empty (dnsmasq 2.90,
// domain_find_sets). Who wins among equals depends on the order in which it
// reads, which is nobody's business to rely on.
func (s *Server) rivals(instances []instance, lines []string) error {
	var errs []error
	read := make(map[stamp]foreign)
	for _, path := range others(instances) {
		st, err := stampOf(path)
		if err != nil {
			continue // it is gone
		}
		f, known := s.foreign[st]
		if !known {
			if f, err = readForeign(path); err != nil {
				continue
			}
		}
		read[st] = f
		if domain := f.shares(lines); domain != "" {
			errs = append(errs, fmt.Errorf("%s has dnsmasq fill sets for %s as well as a rule: one of them stays empty", path, domain))
		}
	}
	s.foreign = read
	return errors.Join(errs...)
}

// others are the files that instances read and we have not made.
func others(instances []instance) (paths []string) {
	for _, i := range instances {
		paths = append(paths, i.config)
		dir, err := os.Open(i.dir)
		if err != nil {
			continue
		}
		entries, _ := dir.ReadDir(-1)
		dir.Close()
		first := len(paths)
		for _, e := range entries {
			if e.Name() != file && !e.IsDir() && i.reads(e.Name()) {
				paths = append(paths, filepath.Join(i.dir, e.Name()))
			}
		}
		slices.Sort(paths[first:])
	}
	return paths
}

// reads says whether dnsmasq reads a file of that name in the directory
// (dnsmasq(8), conf-dir).
func (i instance) reads(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#") {
		return false
	}
	only, among := false, false
	for _, p := range i.patterns {
		if suffix, ok := strings.CutPrefix(p, "*"); ok {
			only, among = true, among || strings.HasSuffix(name, suffix)
		} else if p != "" && strings.HasSuffix(name, p) {
			return false
		}
	}
	return !only || among
}

func readForeign(path string) (foreign, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := make(foreign)
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		option, value, _ := strings.Cut(in.Text(), "=")
		if option = strings.TrimSpace(option); option == "nftset" || option == "ipset" {
			all[option] = append(all[option], domainsOf(value)...)
		}
	}
	return all, in.Err()
}

// domainsOf are those of an option's value, /DOMAIN/DOMAIN/SETS.
func domainsOf(value string) []string {
	parts := strings.Split(strings.TrimSpace(value), "/")
	if len(parts) < 3 {
		return nil
	}
	return parts[1 : len(parts)-1]
}

// shares finds a domain of the lines that is among ours, above or below.
func (f foreign) shares(lines []string) string {
	for _, line := range lines {
		option, value, _ := strings.Cut(line, "=")
		for _, ours := range domainsOf(value) {
			for _, theirs := range f[option] {
				theirs = strings.ToLower(theirs)
				if within(ours, theirs) || within(theirs, ours) {
					return theirs
				}
			}
		}
	}
	return ""
}

// within says whether a name is a domain or below it.
func within(name, domain string) bool { return name == domain || strings.HasSuffix(name, "."+domain) }
