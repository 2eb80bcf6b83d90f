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
	kept  []plan.Kept
	at    time.Time
}

// pair is what a flow has its host and server kept for.
func (f flow) pair() plan.Kept {
	return plan.Kept{Host: f.host.Addr(), Server: f.server.Addr(), Mark: f.mark}
}

// note takes in what is open now; anew: new flows are divided otherwise than
// before. What has come since then has been divided so, or is where it is because
// its host and server were kept, which it does not renew.
func (o *open) note(now map[flow]bool, anew bool) {
	o.at = time.Now()
	flows := make(map[flow]bool)
	for f := range now {
		if o.flows[f] || anew && !slices.Contains(o.kept, f.pair()) {
			flows[f] = true
		}
	}
	o.flows, o.kept = flows, nil
	pairs := make(map[string]plan.Kept) // in the order of their names
	for f := range flows {
		p := f.pair()
		name := p.Host.String() + " " + p.Server.String()
		if other, found := pairs[name]; !found || p.Mark < other.Mark {
			pairs[name] = p
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		o.kept = append(o.kept, pairs[name])
	}
}

// old says that it is time to look again.
func (o *open) old() bool { return len(o.kept) > 0 && time.Since(o.at) >= again }
