// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package conntrack takes flows off WANs that do not carry them any more, by
// deleting their entries in connection tracking: the next packet of a flow
// makes another entry, with another WAN and a source address that fits it. What
// stays tells whose next flow is to stay with it.
package conntrack

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"braid/agent/plan"
)

// Sweeper deletes what has become stale. The zero value is ready.
type Sweeper struct {
	// EndedC receives when a sweep has ended, and Apply may be called with what
	// has changed meanwhile; nil: nobody wants to know.
	EndedC chan struct{}

	done    []plan.FlowWAN // nothing is stale by these
	running chan swept     // from the sweep that is under way, for those below; nil: there is none
	wanted  []plan.FlowWAN
	late    error // of a sweep, that Apply has not told of
	open
}

// swept is what has become of a sweep.
type swept struct {
	open map[flow]bool
	err  error
}

// Apply has the entries deleted of WANs that do not work and those with a
// source address that their WAN has no longer. The table may be large, and who
// calls has a heart to beat: it is read meanwhile, and what has failed is the
// answer to the next call. It is read only when something has changed or the
// last time did not succeed: the kernel before 6.5 does not delete entries of
// offloaded flows, which stop being such soon after the routes have changed.
// While somebody is kept, it is read each minute.
//
// Without WANs, which is teardown, the entries go whose flows the system sends
// elsewhere without braid, before Apply returns.
func (s *Sweeper) Apply(wans []plan.FlowWAN) error {
	err := errors.Join(s.late, s.collect(len(wans) == 0))
	s.late = nil
	if s.running != nil || slices.EqualFunc(wans, s.done, equal) && !s.old() {
		return err
	}
	good := slices.Clone(wans)
	if len(wans) == 0 {
		for _, w := range s.done {
			good = append(good, plan.FlowWAN{Mark: w.Mark, IPv4: w.Main4, IPv6: w.Main6, Addrs: w.Addrs})
		}
	}
	s.wanted, s.running = wans, make(chan swept, 1)
	go func(doneC chan<- swept) {
		doneC <- sweep(good)
		select {
		case s.EndedC <- struct{}{}:
		default:
		}
	}(s.running)
	if len(wans) == 0 {
		err = errors.Join(err, s.collect(true))
	}
	return err
}

// collect takes in what has become of a sweep, if it has ended or is to be waited
// for.
func (s *Sweeper) collect(wait bool) (err error) {
	if s.running == nil {
		return nil
	}
	var done swept
	if wait {
		done = <-s.running
	} else {
		select {
		case done = <-s.running:
		default:
			return nil
		}
	}
	if s.running = nil; done.err == nil {
		s.note(done.open, s.done, s.wanted, !slices.EqualFunc(s.wanted, s.done, equal))
		if s.done = s.wanted; len(s.wanted) == 0 {
			s.open = open{}
		}
	}
	return done.err
}

// Kept lists who has had something open since flows were last divided otherwise.
func (s *Sweeper) Kept() []plan.Kept {
	s.late = errors.Join(s.late, s.collect(false))
	return s.kept
}

func sweep(good []plan.FlowWAN) (done swept) {
	done.open = make(map[flow]bool)
	var errs []error
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, stale{good, family == unix.AF_INET6, done.open})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("deleting connection tracking entries: %w", err))
		}
	}
	done.err = errors.Join(errs...)
	return done
}

func equal(a, b plan.FlowWAN) bool {
	return a.Mark == b.Mark && a.IPv4 == b.IPv4 && a.IPv6 == b.IPv6 && a.New4 == b.New4 && a.New6 == b.New6 &&
		a.Main4 == b.Main4 && a.Main6 == b.Main6 && slices.Equal(a.Addrs, b.Addrs)
}

// stale matches what is to be deleted, and notes what is open of the rest.
type stale struct {
	good []plan.FlowWAN
	v6   bool
	open map[flow]bool
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s stale) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if s.stale(f) {
		return true
	}
	if of, ok := openFlow(f); ok {
		s.open[of] = true
	}
	return false
}

func (s stale) stale(f *netlink.ConntrackFlow) bool {
	mark := f.Mark & plan.MarkWAN
	if mark == 0 {
		return false
	}
	i := slices.IndexFunc(s.good, func(w plan.FlowWAN) bool { return w.Mark == mark })
	if i < 0 {
		return true
	}
	w := s.good[i]
	if s.v6 && !w.IPv6 || !s.v6 && !w.IPv4 {
		return true
	}
	if f.Forward.SrcIP.Equal(f.Reverse.DstIP) {
		return false // not translated
	}
	// With a prefix in place of another (NPT) the source is no address of ours.
	a, ok := netip.AddrFromSlice(f.Reverse.DstIP)
	return ok && !s.v6 && len(w.Addrs) > 0 && !slices.Contains(w.Addrs, a.Unmap())
}
