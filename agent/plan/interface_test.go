// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/agent/config"
	"braid/agent/netstate"
)

// What netifd shows of common routers.
var (
	lan       = netstate.Interface{Name: "lan", Up: true, L3Device: "br-lan", Proto: "static"}
	wan       = netstate.Interface{Name: "wan", Up: true, L3Device: "eth1", Proto: "dhcp"}
	wan6      = netstate.Interface{Name: "wan6", Up: true, L3Device: "eth1", Proto: "dhcpv6"}
	clat      = netstate.Interface{Name: "wan6_4", Up: true, L3Device: "464-wan6", Proto: "464xlat", Parent: "wan6"}
	pppoe     = netstate.Interface{Name: "wan", Up: true, L3Device: "pppoe-wan", Proto: "pppoe"}
	pppoe6    = netstate.Interface{Name: "wan_6", Up: true, L3Device: "pppoe-wan", Proto: "dhcpv6", Parent: "wan"}
	modemLink = netstate.Interface{Name: "wwan", Up: true, L3Device: "", Proto: "qmi"}
	modem4    = netstate.Interface{Name: "wwan_4", Up: true, L3Device: "wwan0", Proto: "dhcp", Parent: "wwan"}
	modem6    = netstate.Interface{Name: "wwan_6", Up: true, L3Device: "wwan0", Proto: "dhcpv6", Parent: "wwan"}
	modemCLAT = netstate.Interface{Name: "wwan_6_4", Up: true, L3Device: "464-wwan_6", Proto: "464xlat", Parent: "wwan_6"}
)

func down(in netstate.Interface) netstate.Interface {
	in.Up = false
	return in
}

func TestInterfaceDevices(t *testing.T) {
	for _, tt := range []struct {
		name       string
		interfaces []string
		netifd     []netstate.Interface
		devices    string
		problems   string
	}{
		{name: "one", interfaces: []string{"wan"}, netifd: []netstate.Interface{lan, wan}, devices: "eth1"},
		{name: "two on one device", interfaces: []string{"wan", "wan6"}, netifd: []netstate.Interface{lan, wan, wan6}, devices: "eth1"},
		{name: "first is down", interfaces: []string{"wan", "wan6"}, netifd: []netstate.Interface{down(wan), wan6}, devices: "eth1"},
		{name: "other of its device is up", interfaces: []string{"wan"}, netifd: []netstate.Interface{down(wan), wan6}, devices: "eth1"},
		{name: "464xlat", interfaces: []string{"wan6"}, netifd: []netstate.Interface{wan6, clat}, devices: "eth1 464-wan6"},
		{name: "464xlat named too", interfaces: []string{"wan6", "wan6_4"}, netifd: []netstate.Interface{wan6, clat}, devices: "eth1 464-wan6"},
		{name: "pppoe", interfaces: []string{"wan"}, netifd: []netstate.Interface{pppoe, pppoe6}, devices: "pppoe-wan"},
		{name: "modem", interfaces: []string{"wwan"}, netifd: []netstate.Interface{modemLink, modem4, modem6}, devices: "wwan0"},
		{name: "IPv6-only modem", interfaces: []string{"wwan"}, netifd: []netstate.Interface{modemLink, down(modem4), modem6, modemCLAT}, devices: "wwan0 464-wwan_6"},
		{name: "down", interfaces: []string{"wan"}, netifd: []netstate.Interface{lan, down(wan), down(wan6)}},
		{name: "renamed", interfaces: []string{"wan"}, netifd: []netstate.Interface{lan, wan6},
			problems: "interface: netifd has no interface wan"},
		{name: "no netifd", interfaces: []string{"wan"}, problems: "interface: netifd has no interface wan"},
		{name: "PPPoE and IPoE", interfaces: []string{"wan", "wan6"}, netifd: []netstate.Interface{pppoe, wan6}, devices: "pppoe-wan eth1"},
		{name: "two devices", interfaces: []string{"wan", "wwan_4"}, netifd: []netstate.Interface{wan, {Name: "wwan_4", Up: true, L3Device: "wwan0"}},
			devices: "eth1 wwan0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := maker{Input: Input{Net: netstate.Snapshot{Interfaces: tt.netifd}}}
			devices := strings.Join(m.interfaceDevices(config.WAN{Name: "fibre", Interfaces: tt.interfaces}), " ")
			if devices != tt.devices {
				t.Errorf("%q, want %q", devices, tt.devices)
			}
			var problems []string
			for _, p := range m.problems {
				problems = append(problems, p.Option+": "+p.Message)
			}
			if got := strings.Join(problems, "\n"); got != tt.problems {
				t.Errorf("problems: %q, want %q", got, tt.problems)
			}
		})
	}
}

func network() netstate.Snapshot {
	link := func(index int, name, addr, gateway string) netstate.Link {
		return netstate.Link{Index: index, Name: name, Up: true, Type: "device",
			Addrs:    []netstate.Addr{{Prefix: netip.MustParsePrefix(addr), Usable: true}},
			Defaults: []netstate.Default{{Gateway: netip.MustParseAddr(gateway)}}}
	}
	return netstate.Snapshot{
		Links:      []netstate.Link{link(2, "eth1", "198.51.100.2/24", "198.51.100.1"), link(3, "wwan0", "100.64.0.2/24", "100.64.0.1")},
		Interfaces: []netstate.Interface{wan, wan6, modemLink, modem4},
	}
}

// Two sections for one line are a mistake that must not divide its traffic.
func TestDeviceOfAnotherWAN(t *testing.T) {
	c := config.Config{Globals: config.Globals{Enabled: true}, WANs: []config.WAN{
		{Name: "a", Interfaces: []string{"wan"}}, {Name: "b", Interfaces: []string{"wan6"}},
	}}
	p, problems := Make(Input{Config: c, Net: network()})
	if !p.WANs[0].Usable || p.WANs[1].Usable || p.WANs[1].Reason != "its device eth1 is that of a" {
		t.Errorf("%+v", p.WANs)
	}
	if len(problems) == 0 || problems[0].Section != "b" {
		t.Errorf("problems: %v", problems)
	}
}

func TestKindFromProtocol(t *testing.T) {
	c := config.Config{Globals: config.Globals{Enabled: true}, WANs: []config.WAN{
		{Name: "dsl", Interfaces: []string{"wan"}}, {Name: "lte", Interfaces: []string{"wwan"}},
	}}
	p, _ := Make(Input{Config: c, Net: network()})
	if p.WANs[0].Kind != config.KindFixed || p.WANs[1].Kind != config.KindCellular || p.WANs[1].Role != config.RoleOverflow {
		t.Errorf("%+v", p.WANs)
	}
}

func TestOverrides(t *testing.T) {
	c := config.Config{Globals: config.Globals{Enabled: true}, WANs: []config.WAN{
		{Name: "dsl", Interfaces: []string{"wan"}, Role: config.RolePrimary}, {Name: "lte", Interfaces: []string{"wwan"}, Role: config.RoleBond},
	}}
	for _, tt := range []struct {
		name      string
		overrides map[string]config.Role
		want      map[string]config.Role
	}{
		{"none", nil, map[string]config.Role{"dsl": config.RolePrimary, "lte": config.RoleBond}},
		{"another primary", map[string]config.Role{"lte": config.RolePrimary}, map[string]config.Role{"dsl": config.RoleBond, "lte": config.RolePrimary}},
		{"off", map[string]config.Role{"dsl": config.RoleOff}, map[string]config.Role{"dsl": config.RoleOff, "lte": config.RolePrimary}},
		{"backup", map[string]config.Role{"lte": config.RoleBackup}, map[string]config.Role{"dsl": config.RolePrimary, "lte": config.RoleBackup}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := Make(Input{Config: c, Overrides: tt.overrides, Net: network()})
			got := make(map[string]config.Role)
			for _, w := range p.WANs {
				got[w.Name] = w.Role
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
