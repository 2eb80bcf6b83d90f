// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"braid/agent/plan"
)

const (
	// established is TCP_CONNTRACK_ESTABLISHED of the kernel.
	established = 3
	// again is when it is looked whether what was open still is.
	again = time.Minute
)

// flow is a TCP connection that is forwarded over a WAN.
type flow struct {
	host, server netip.AddrPort
	mark         uint32
}

// openFlow is what an entry stands for, if its connection is established and
// leaves by a WAN. IPv4 that is not translated has come in there, as a rule, or
// is of a network that has but one WAN.
func openFlow(f *netlink.ConntrackFlow) (flow, bool) {
	of := flow{mark: f.Mark & plan.MarkWAN}
	if f.Forward.Protocol != unix.IPPROTO_TCP || of.mark == 0 {
		return of, false
	}
	if tcp, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP); !ok || tcp.State != established {
		return of, false
	}
	host, _ := netip.AddrFromSlice(f.Forward.SrcIP)
	server, ok := netip.AddrFromSlice(f.Forward.DstIP)
	of.host = netip.AddrPortFrom(host.Unmap(), f.Forward.SrcPort)
	of.server = netip.AddrPortFrom(server.Unmap(), f.Forward.DstPort)
	return of, ok && (of.server.Addr().Is6() || !f.Forward.SrcIP.Equal(f.Reverse.DstIP))
}

// open is what was open when new flows were last divided otherwise, and is still.
type open struct {
	flows map[flow]bool
	pairs map[string]plan.Kept // what they have kept, by its name
	kept  []plan.Kept          // the same, in that order
	force bool                 // some of it leads where new flows do not go by themselves
	at    time.Time
}

// pair is what a flow has its host and server kept for, and its name.
func (f flow) pair() (p plan.Kept, name string) {
	p = plan.Kept{Host: f.host.Addr(), Server: f.server.Addr(), Mark: f.mark}
	return p, p.Host.String() + " " + p.Server.String()
}

// note takes in what is open now; before is how new flows were divided until now,
// anew that they are divided otherwise from now on. What has come since they were last
// divided has been divided so, or is where it is because its host and server were
// kept, which it does not renew.
func (o *open) note(now map[flow]bool, before, wans []plan.FlowWAN, anew bool) {
	o.at = time.Now()
	was, flows := o.pairs, make(map[flow]bool)
	o.pairs, o.kept, o.force = make(map[string]plan.Kept), nil, false
	for f := range now {
		p, name := f.pair()
		old, found := was[name]
		led := found && old.Mark == p.Mark && !only(before, f)
		if !o.flows[f] && (!anew || led) {
			continue
		}
		flows[f] = true
		if other, found := o.pairs[name]; !found || p.Mark < other.Mark {
			o.pairs[name] = p
		}
		o.force = o.force || !only(wans, f)
	}
	o.flows = flows
	for _, name := range slices.Sorted(maps.Keys(o.pairs)) {
		o.kept = append(o.kept, o.pairs[name])
	}
}

// only says whether all new flows leave by a flow's WAN anyway.
func only(wans []plan.FlowWAN, f flow) bool {
	return !slices.ContainsFunc(wans, func(w plan.FlowWAN) bool {
		weight := w.New4
		if f.server.Addr().Is6() {
			weight = w.New6
		}
		return weight > 0 && w.Mark != f.mark
	})
}

// old says that it is time to look again.
func (o *open) old() bool { return o.force && time.Since(o.at) >= again }
