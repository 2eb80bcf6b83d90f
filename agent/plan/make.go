// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"braid/agent/config"
	"braid/agent/health"
	"braid/agent/load"
	"braid/agent/modem"
	"braid/agent/nameserver"
	"braid/agent/netstate"
	"braid/agent/path"
)

// Input is all that a plan depends on.
type Input struct {
	Config config.Config
	// Overrides are roles that hold instead of those of Config, by WAN.
	Overrides map[string]config.Role
	Net       netstate.Snapshot
	Resolved  map[string][]netip.Addr // addresses of the host names in Config
	Health    map[health.Leg]health.Health
	Load      map[string]load.Use // by WAN
	CLAT      map[string]CLAT     // translators that run, by WAN
	Modems    map[string]modem.Facts
	Spent     map[string]bool // WANs whose quota is used up
	// Converters are what is known of each: state and families.
	Converters map[string]path.Converter
	Silent     map[nameserver.Target]bool // that gave no answer
	// Barred are the devices to which the packet filter lets nothing new pass
	// from the LAN.
	Barred map[Barrier]bool
	// Helped are the TCP ports for which the packet filter asks for a helper of
	// connection tracking.
	Helped []config.PortRange
	// Kept are hosts and servers that had something open when flows were divided
	// otherwise.
	Kept []Kept
	// Bulk says that a connection carries so much that a line which dies should
	// have another at hand.
	Bulk bool
	// Crowd is whose new connections are not taken because too many are open.
	Crowd Crowd
	// Lost are addresses that WANs have had and that no device has any more which is up.
	Lost  []netip.Addr
	Ports Ports // zero: there is no proxy, and nothing is intercepted
}

// Barrier is what the firewall does not let the LAN use.
type Barrier struct {
	Device string
	IPv6   bool
}

// Crowd is everybody, or hosts of the LAN.
type Crowd struct {
	All   bool
	Hosts []netip.Addr
}

// Make plans. The problems are what a user should know of: things configured
// that are not there, and what is done about them.
func Make(in Input) (Plan, config.Problems) {
	if !in.Config.Globals.Enabled || len(in.Config.WANs) == 0 {
		return Plan{}, nil
	}
	m := maker{Input: in, kinds: make(map[string]config.Kind)}
	m.findWANs()
	m.findGuests()
	m.chooseRoles()
	m.findModems()
	m.giveAddresses()
	m.findIPv6Only()
	m.findNetwork()
	m.route()
	m.probe()
	m.addEndpoints()
	m.reportBarriers()
	m.steer()
	m.setSysctls()
	m.plan.Filter = in.Config.Globals.Firewall
	m.filter()
	m.plan.Lost = m.lost()
	return m.plan, m.problems
}

// Devices are those of the LAN and of the WANs that a plan would be made for.
func Devices(in Input) (lan, wan []string) {
	if !in.Config.Globals.Enabled {
		return nil, nil
	}
	m := maker{Input: in}
	m.findDevices()
	return m.lanDevices(), slices.Concat(m.devices...)
}

// maker is a plan in the making.
type maker struct {
	Input
	plan     Plan
	problems config.Problems
	kinds    map[string]config.Kind // guessed from the device
	devices  [][]string             // of each WAN
	families [2]FirewallFamily      // IPv4, IPv6
}

func (m *maker) problem(section, option, message string) {
	m.problems = append(m.problems, config.Problem{Section: section, Option: option, Message: message, Warning: true})
}

// Primary is the WAN on which connections start; false if there is none.
func (p Plan) Primary() (WAN, bool) {
	i := slices.IndexFunc(p.WANs, func(w WAN) bool { return w.Usable && w.Role == config.RolePrimary })
	if i < 0 {
		return WAN{}, false
	}
	return p.WANs[i], true
}

// WANByAddr finds the WAN that has an address.
func (p Plan) WANByAddr(a netip.Addr) (WAN, bool) {
	if w, ok := p.wanWith(func(l Leg) bool { return l.Subflows && l.Source == a }); ok {
		return w, true
	}
	return p.wanWith(func(l Leg) bool { return slices.Contains(l.Addrs, a) })
}

func (p Plan) wanWith(has func(Leg) bool) (WAN, bool) {
	i := slices.IndexFunc(p.WANs, func(w WAN) bool { return slices.ContainsFunc(w.Legs, has) })
	if i < 0 {
		return WAN{}, false
	}
	return p.WANs[i], true
}

// ConverterAddrs are the addresses of a converter, names resolved.
func (in Input) ConverterAddrs(c config.Converter) (addrs []netip.Addr) {
	for _, h := range c.Addresses {
		if h.Addr.IsValid() {
			addrs = append(addrs, h.Addr)
		} else {
			addrs = append(addrs, in.Resolved[h.Name]...)
		}
	}
	return addrs
}
