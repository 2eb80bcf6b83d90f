// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package dnsmasq has the gateway's DNS server put the addresses of names into
// sets of the packet filter, by a file in the directory that OpenWrt's init
// script gives each instance for what others want of it.
package dnsmasq

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
)

const (
	// file is ours in such a directory. dnsmasq reads what ends in .conf under
	// any restriction that a directory may have; it passes over draft.
	file  = "braid.conf"
	draft = ".braid.conf"

	head = "# Addresses for braid's rules. Made by the agent; do not edit.\n"
)

// Server is the system's dnsmasq.
type Server struct {
	// Configs is the pattern of the configurations that the init script makes,
	// one for each instance.
	Configs string
	// Program tells with --version what it was built with.
	Program string
	// Restart has all instances read their configuration, which no signal does.
	Restart []string

	failed atomic.Pointer[error] // of the last restart, until it is told
}

// OpenWrt is dnsmasq as OpenWrt runs it.
func OpenWrt() *Server {
	return &Server{
		Configs: "/var/etc/dnsmasq.conf*",
		Program: "dnsmasq",
		Restart: []string{"/etc/init.d/dnsmasq", "restart"},
	}
}

// Apply has every instance follow the lines; none of them takes ours away. On
// a system where no instance is configured that way it does nothing. It may be
// called often: dnsmasq is restarted only if something is another one.
func (s *Server) Apply(ctx context.Context, lines []string) error {
	if e := s.failed.Swap(nil); e != nil {
		return *e
	}
	dirs, err := s.dirs()
	if err != nil {
		return fmt.Errorf("looking for dnsmasq's configuration: %w", err)
	}
	text := ""
	if len(lines) > 0 {
		text = head + strings.Join(lines, "\n") + "\n"
	}
	changed, able := false, false
	for _, dir := range dirs {
		path := filepath.Join(dir, file)
		if had, err := os.ReadFile(path); string(had) == text && (err == nil || errors.Is(err, os.ErrNotExist)) {
			continue
		}
		if text != "" && !able {
			option, _, _ := strings.Cut(lines[0], "=")
			if err := s.can(ctx, option); err != nil {
				return err
			}
			able = true
		}
		if err := put(path, text); err != nil {
			return fmt.Errorf("telling dnsmasq of the rules' domains: %w", err)
		}
		changed = true
	}
	if changed {
		s.restart()
	}
	return nil
}

// dirs are the directories of the instances, which they have by `conf-dir=DIR`
// or `conf-dir=DIR,PATTERN`.
func (s *Server) dirs() (dirs []string, err error) {
	configs, err := filepath.Glob(s.Configs)
	if err != nil {
		return nil, err
	}
	for _, c := range configs {
		b, err := os.ReadFile(c)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			dir, ok := strings.CutPrefix(strings.TrimSpace(line), "conf-dir=")
			if !ok {
				continue
			}
			dir, _, _ = strings.Cut(dir, ",")
			if i, err := os.Stat(dir); err == nil && i.IsDir() {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs, nil
}

// can says whether dnsmasq has an option: one that it was built without would
// keep it from starting, and the LAN from all names.
func (s *Server) can(ctx context.Context, option string) error {
	out, err := exec.CommandContext(ctx, s.Program, "--version").Output()
	if err != nil {
		return fmt.Errorf("asking dnsmasq what it can do: %w", err)
	}
	for _, word := range strings.Fields(string(out)) {
		if word == option {
			return nil
		}
	}
	return fmt.Errorf("rules by domain: this dnsmasq has no %s, that of the package dnsmasq-full has", option)
}

func put(path, text string) error {
	if text == "" {
		return os.Remove(path)
	}
	d := filepath.Join(filepath.Dir(path), draft)
	if err := os.WriteFile(d, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(d, path)
}

// restart does not wait for the end, which takes a second or more.
func (s *Server) restart() {
	c := exec.Command(s.Restart[0], s.Restart[1:]...)
	fail := func(err error) {
		err = fmt.Errorf("restarting dnsmasq: %w", err)
		s.failed.Store(&err)
	}
	if err := c.Start(); err != nil {
		fail(err)
		return
	}
	go func() {
		if err := c.Wait(); err != nil {
			fail(err)
		}
	}()
}
