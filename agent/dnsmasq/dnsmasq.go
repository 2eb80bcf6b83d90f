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

	restarting = "restarting dnsmasq"
	forgetting = "emptying dnsmasq's cache"

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
	// Forget has them empty their caches, as SIGHUP does.
	Forget []string
	// Pause is the least time between two of these that are not due to a change.
	Pause time.Duration

	unread  bool      // it has not read what there is
	stale   bool      // it knows addresses that the sets do not have
	told    time.Time // when it was last tried
	doing   string    // what was
	resultC chan error

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

// restart has procd start dnsmasq anew as its init script would, but for what
// takes the LAN's names away for 3 s and an interface: the script's search for
// other DHCP servers, whose outcome its own stop forgets. The first start, while
// all runs, changes nothing but that the outcome is known.
const restart = `cd /etc/init.d && ./dnsmasq running || exit 0
./dnsmasq start
ubus call service delete '{"name":"dnsmasq"}'
exec ./dnsmasq start`

// OpenWrt is dnsmasq as OpenWrt runs it. One that the user has stopped stays
// so.
func OpenWrt() *Server {
	return &Server{
		Configs: "/var/etc/dnsmasq.conf*",
		Program: "dnsmasq",
		Restart: []string{"/bin/sh", "-c", restart},
		Forget:  []string{"ubus", "call", "service", "signal", `{"name":"dnsmasq","signal":1}`},
		Pause:   time.Minute,
	}
}

// Refill says that the sets have been emptied. dnsmasq puts nothing there that
// it has in its cache, so the next Apply with lines has it forget that.
func (s *Server) Refill() { s.stale = true }

// Apply has every instance follow the lines; none of them takes ours away. On
// a system where no instance is configured that way it does nothing. It may be
// called often: dnsmasq is told only if there is a reason. What fails of that is an
// error of a later Apply, and is tried again.
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
		s.unread, s.stale = false, false
	}
	if changed {
		s.unread, s.told = true, time.Time{}
	}
	if (s.unread || s.stale) && s.resultC == nil && time.Since(s.told) >= s.Pause {
		s.tell()
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

// tell does not wait for the end, which takes a second or more.
func (s *Server) tell() {
	command := s.Forget
	s.doing = forgetting
	if s.unread {
		command = s.Restart // which empties the cache as well
		s.doing = restarting
	}
	s.unread, s.stale, s.told = false, false, time.Now()
	s.resultC = make(chan error, 1)
	c := exec.Command(command[0], command[1:]...)
	if err := c.Start(); err != nil {
		s.resultC <- err
		return
	}
	go func() { s.resultC <- c.Wait() }()
}

// result is how that ended the last time, once it has.
func (s *Server) result() error {
	select {
	case err := <-s.resultC:
		s.resultC = nil
		if err != nil {
			s.unread, s.stale = s.unread || s.doing == restarting, true
			return fmt.Errorf("%s: %w", s.doing, err)
		}
	default:
	}
	return nil
}
