// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/netip"
	"strings"

	"braid/agent/clat"
	"braid/agent/config"
	"braid/agent/netstate"
	"braid/agent/plan"
)

// translate has the WANs with IPv6 alone looked after, where the kernel
// forwards what is translated.
func (l *loop) translate(targets []plan.IPv6Only, net netstate.Snapshot) (problems config.Problems) {
	if len(targets) == 0 {
		l.clats.SetTargets(nil, nil)
		return nil
	}
	if !clat.Forwarding() {
		for _, t := range targets {
			problems = append(problems, config.Problem{Section: t.WAN, Warning: true,
				Message: "no IPv4 by way of a NAT64: net.ipv6.conf.all.forwarding is 0"})
		}
		targets = nil
	}
	var taken []netip.Addr
	for _, link := range net.Links {
		if strings.HasPrefix(link.Name, clat.DevicePrefix) {
			continue
		}
		for _, a := range link.Addrs {
			taken = append(taken, a.Prefix.Addr())
		}
	}
	l.clats.SetTargets(targets, taken)
	return problems
}
