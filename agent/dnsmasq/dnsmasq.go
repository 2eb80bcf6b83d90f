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
	"time"
)

const (
	// file is ours in such a directory. dnsmasq reads what ends in .conf under
	// the restriction that a directory usually has; it passes over draft.
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
	// Restart has all instances that run read their configuration, which no
	// signal does.
	Restart []string
	// Pause is the least time between a restart and another that is not due to
	// a change.
	Pause time.Duration

	stale     bool      // it has not read what there is, or has to read it again
	restarted time.Time // when it was last tried
	resultC   chan error

	asked  stamp // of the program that able is about
	option string
	able   error

	foreign map[stamp]foreign // files of others
}

// instance is one of dnsmasq's: the configuration that the init script makes,
// and the directory of more that it names, for files of some names only.
type instance struct {
	config   string
	dir      string
	patterns []string
}

// OpenWrt is dnsmasq as OpenWrt runs it. One that the user has stopped stays
// so.
func OpenWrt() *Server {
	return &Server{
		Configs: "/var/etc/dnsmasq.conf*",
		Program: "dnsmasq",
		Restart: []string{"/bin/sh", "-c", "! /etc/init.d/dnsmasq running || exec /etc/init.d/dnsmasq restart"},
		Pause:   time.Minute,
	}
}

// Refill says that the sets have been emptied. dnsmasq puts nothing there that
// it has in its cache, so the next Apply with lines restarts it.
func (s *Server) Refill() { s.stale = true }

// Apply has every instance follow the lines; none of them takes ours away. On
// a system where no instance is configured that way it does nothing. It may be
// called often: dnsmasq is restarted only if there is a reason. A restart that
// fails is an error of a later Apply, and is tried again.
func (s *Server) Apply(ctx context.Context, lines []string) error {
	errs := []error{s.result()}
	instances, err := s.instances()
	if err != nil {
		errs = append(errs, fmt.Errorf("looking for dnsmasq's configuration: %w", err))
	}
	text := ""
	if len(lines) > 0 && len(instances) > 0 {
		option, _, _ := strings.Cut(lines[0], "=")
		if err := s.can(ctx, option); err != nil {
			errs = append(errs, err)
		} else {
			text = head + strings.Join(lines, "\n") + "\n"
			errs = append(errs, s.rivals(instances, lines))
		}
	}
	changed := false
	for _, i := range instances {
		path := filepath.Join(i.dir, file)
		had, err := os.ReadFile(path)
		if string(had) == text && (err == nil || errors.Is(err, os.ErrNotExist)) {
			continue
		}
		if err := put(path, text); err != nil {
			errs = append(errs, fmt.Errorf("telling dnsmasq of the rules' domains: %w", err))
			continue
		}
		changed = true
	}
	if text == "" && !changed {
		s.stale = false
	}
	if changed {
		s.stale, s.restarted = true, time.Time{}
	}
	if s.stale && s.resultC == nil && time.Since(s.restarted) >= s.Pause {
		s.restart()
	}
	return errors.Join(errs...)
}

// instances are those with a directory, which they have by `conf-dir=DIR` or
// `conf-dir=DIR,PATTERN`.
func (s *Server) instances() (all []instance, err error) {
	configs, err := filepath.Glob(s.Configs)
	if err != nil {
		return nil, err
	}
	for _, c := range configs {
		b, err := os.ReadFile(c)
		if errors.Is(err, os.ErrNotExist) {
			continue // it was renamed
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			dir, ok := strings.CutPrefix(strings.TrimSpace(line), "conf-dir=")
			if !ok {
				continue
			}
			dir, patterns, _ := strings.Cut(dir, ",")
			if i, err := os.Stat(dir); err == nil && i.IsDir() {
				all = append(all, instance{c, dir, strings.Split(patterns, ",")})
			}
		}
	}
	return all, nil
}

// can says whether dnsmasq has an option: one that it was built without would
// keep it from starting, and the LAN from all names. The program is asked once.
func (s *Server) can(ctx context.Context, option string) error {
	path, err := exec.LookPath(s.Program)
	if err != nil {
		return fmt.Errorf("looking for dnsmasq: %w", err)
	}
	p, err := stampOf(path)
	if err != nil {
		return err
	}
	if p == s.asked && option == s.option {
		return s.able
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return fmt.Errorf("asking dnsmasq what it can do: %w", err)
	}
	s.asked, s.option = p, option
	s.able = fmt.Errorf("rules by domain: this dnsmasq has no %s, that of the package dnsmasq-full has", option)
	for _, word := range strings.Fields(string(out)) {
		if word == option {
			s.able = nil
		}
	}
	return s.able
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
	s.stale, s.restarted = false, time.Now()
	s.resultC = make(chan error, 1)
	c := exec.Command(s.Restart[0], s.Restart[1:]...)
	if err := c.Start(); err != nil {
		s.resultC <- err
		return
	}
	go func() { s.resultC <- c.Wait() }()
}

// result is how the last restart ended, once it has.
func (s *Server) result() error {
	select {
	case err := <-s.resultC:
		s.resultC = nil
		if err != nil {
			s.stale = true
			return fmt.Errorf("restarting dnsmasq: %w", err)
		}
	default:
	}
	return nil
}
