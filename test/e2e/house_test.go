// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
)

// Houses are set-ups that people have, in which braid is a guest: what others have decided about a
// packet stays decided. A test builds its house, sees without braid that it is built right, has
// braid move in, and sees what that has changed.

// houseFlows is the number of servers of each family that a house's flows go to: enough that of two
// WANs with equal shares neither gets none.
const houseFlows = 14

// A house has servers of both families to which flows are made, each with an address of its own.
type house struct {
	*rig.Rig
	all4, all6 []netip.Addr
}

// newHouse builds a house without braid.
func newHouse(t *testing.T, o lab.Options, uci string) house {
	t.Helper()
	h := house{Rig: start(t, rig.Options{Lab: o, UCI: uci, Idle: true})}
	h.all4, h.all6 = servers(t, h.Rig, houseFlows)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(h.Gateway.Run(`for family in -4 -6; do
				ip $family rule
				ip $family route show table all | grep -v "table local"
			done
			ip addr
			nft list ruleset`))
		}
	})
	return h
}

// moveIn starts converter and agent, and waits until the WANs work.
func (h house) moveIn(t *testing.T, wans ...string) {
	t.Helper()
	must(t, h.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"))
	must(t, h.StartAgent())
	for _, w := range wans {
		working(t, h.Rig, w, true)
	}
}

// homeUCI is a configuration with WANs, each written as "name; option value; option value".
func homeUCI(wans ...string) string {
	var b strings.Builder
	b.WriteString("config globals 'globals'\n\toption enabled '1'\n\toption log_level 'debug'\n\tlist lan 'lan0'\n")
	for _, w := range wans {
		name, options, _ := strings.Cut(w, "; ")
		fmt.Fprintf(&b, "\nconfig wan '%s'\n", name)
		for _, o := range strings.Split(options, "; ") {
			key, value, _ := strings.Cut(o, " ")
			kind := "option"
			if key == "interface" {
				kind = "list"
			}
			fmt.Fprintf(&b, "\t%s %s '%s'\n", kind, key, value)
		}
	}
	b.WriteString("\nconfig converter 'mcp'\n\tlist address '192.0.2.10'\n\tlist address '2001:db8:10::10'\n\toption port '5124'\n")
	return b.String()
}

// by names that by which a flow has left which the world sees from a: a WAN, a provider, or the
// converter.
func (h house) by(a netip.Addr) string {
	a = a.Unmap()
	if a == lab.Converter4 || a == lab.Converter6 {
		return "converter"
	}
	for _, p := range h.Providers {
		if a == p.Public4 || a == p.Public6 || p.Tunnel.RoutesLAN && lab.LANPrefix6.Contains(a) {
			return p.Tunnel.Name
		}
	}
	for _, w := range h.WANs {
		if a == w.Public4 || a == w.Gateway6.Addr() || w.RoutesLAN && lab.LANPrefix6.Contains(a) {
			return w.Name
		}
	}
	return a.String()
}

// leave makes a flow from a node to each server, and counts by what they leave; those that get no
// answer leave by "nothing".
func (h house) leave(t *testing.T, from *lab.Node, network string, servers []netip.Addr) map[string]int {
	t.Helper()
	found := make(chan string)
	for _, s := range servers {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			a, err := h.seen(ctx, from, network, s)
			if err != nil {
				found <- "nothing"
				return
			}
			found <- h.by(a)
		}()
	}
	n := make(map[string]int)
	for range servers {
		n[<-found]++
	}
	return n
}

// seen asks a server from which address it sees a flow.
func (h house) seen(ctx context.Context, from *lab.Node, network string, server netip.Addr) (netip.Addr, error) {
	switch network {
	case "tcp":
		p, err := fromNode(h.Rig, from, server, rig.Port).Identify(ctx)
		return p.Remote.Addr(), err
	case "icmp":
		return h.pinged(ctx, from, server)
	}
	c, err := from.Dial(ctx, net.Dialer{}, "udp", netip.AddrPortFrom(server, mirrorPort).String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	for {
		c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		c.Write([]byte("who am I?"))
		var buf [100]byte
		n, err := c.Read(buf[:])
		if err == nil {
			p, err := netip.ParseAddrPort(string(buf[:n]))
			return p.Addr(), err
		}
		if ctx.Err() != nil {
			return netip.Addr{}, err
		}
		time.Sleep(50 * time.Millisecond) // refusals come at once
	}
}

// pinged sends an echo request to a server of IPv4, and tells from whom it came there.
func (h house) pinged(ctx context.Context, from *lab.Node, server netip.Addr) (netip.Addr, error) {
	in, err := h.Server.ListenPacket(ctx, net.ListenConfig{}, "ip4:icmp", server.String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer in.Close()
	out, err := from.ListenPacket(ctx, net.ListenConfig{}, "ip4:icmp", "0.0.0.0")
	if err != nil {
		return netip.Addr{}, err
	}
	defer out.Close()
	request := []byte{8, 0, 0, 0, 0, 0, 0, 1}
	id := uint16(rand.Uint32N(1 << 15))
	binary.BigEndian.PutUint16(request[4:], id)
	binary.BigEndian.PutUint16(request[2:], ^(0x0800 + id + 1)) // RFC 1071
	if _, err := out.WriteTo(request, &net.IPAddr{IP: server.AsSlice()}); err != nil {
		return netip.Addr{}, err
	}
	in.SetDeadline(time.Now().Add(time.Second))
	var buf [100]byte
	_, who, err := in.ReadFrom(buf[:])
	if err != nil {
		return netip.Addr{}, err
	}
	a, _ := netip.AddrFromSlice(who.(*net.IPAddr).IP)
	return a, nil
}

// ways is by what a node's flows are to leave: each of them by one of these, and by each of these
// some.
type ways struct {
	from     *lab.Node
	udp, tcp []string // of both families
	only     int      // of this family alone, 4 or 6; 0: of both
}

// are says whether that is so.
func (w ways) are(t *testing.T, h house) error {
	t.Helper()
	var errs []error
	for family, servers := range map[int][]netip.Addr{4: h.all4, 6: h.all6} {
		if w.only != 0 && w.only != family {
			continue
		}
		for network, want := range map[string][]string{"udp": w.udp, "tcp": w.tcp} {
			if want == nil {
				continue
			}
			found := h.leave(t, w.from, network, servers)
			if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				errs = append(errs, fmt.Errorf("%s to IPv%d servers leaves by %v, want %v", network, family, found, want))
			}
		}
	}
	return errors.Join(errs...)
}

// leaves fails unless flows leave as they are to.
func (h house) leaves(t *testing.T, all ...ways) {
	t.Helper()
	for _, w := range all {
		if err := w.are(t, h); err != nil {
			t.Error(err)
		}
	}
}

// comes waits until flows leave as they are to.
func (h house) comes(t *testing.T, all ...ways) {
	t.Helper()
	for _, w := range all {
		eventually(t, 20*time.Second, func() error { return w.are(t, h) })
	}
}

var (
	bothWANs = []string{"fibre", "lte"}
	taken    = []string{"converter"}
)

// allBy is that everything of a node's leaves by one device.
func allBy(from *lab.Node, device string) ways {
	return ways{from: from, udp: []string{device}, tcp: []string{device}}
}

// tunnel builds a provider to whom a tunnel leads, whose packets the gateway sends by the first
// WAN unless other routes say otherwise. It is masqueraded.
func (h house) tunnel(t *testing.T, tunnel lab.Tunnel, inside ...string) *lab.Provider {
	t.Helper()
	for _, p := range inside {
		tunnel.Inside = append(tunnel.Inside, netip.MustParsePrefix(p))
	}
	p, err := h.AddTunnel(tunnel)
	must(t, err)
	sh(t, h.Gateway, "ip link set "+tunnel.Name+" mtu 1400")
	nft(t, h.Gateway, fmt.Sprintf(`table inet masquerade_%[1]s {
		chain postrouting {
			type nat hook postrouting priority srcnat
			oifname %[1]q masquerade
		}
	}`, tunnel.Name))
	return p
}

// vpn is a tunnel as WireGuard's, whose own packets go by the first WAN.
func (h house) vpn(t *testing.T, name string) *lab.Provider {
	t.Helper()
	p := h.tunnel(t, lab.Tunnel{Name: name, Over: "udp4"}, "10.9.0.2/24", "fd09::2/64")
	w := h.WANs[0]
	sh(t, h.Gateway, fmt.Sprintf("ip route add %v via %v dev %s", p.Public4, w.Router4, w.Name)) // as netifd does
	return p
}

var connmark = regexp.MustCompile(`\bmark=(\d+)`)

// unmarked fails if a flow from an address carries a mark of braid's.
func (h house) unmarked(t *testing.T, from netip.Addr) {
	t.Helper()
	const ours = 0x3f000000
	marked := 0
	for line := range strings.Lines(sh(t, h.Gateway, "conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null")) {
		if m := connmark.FindStringSubmatch(line); m != nil && strings.Contains(line, "src="+from.String()+" ") {
			if mark, err := strconv.ParseUint(m[1], 10, 32); err != nil || mark&ours != 0 {
				marked++
			}
		}
	}
	if marked > 0 {
		t.Errorf("%d flows from %v are marked", marked, from)
	}
}

// told waits until one of the agent's problems speaks of something.
func (h house) told(t *testing.T, of string) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		problems := status(t, h.Rig).Problems
		for _, p := range problems {
			if strings.Contains(p.Section+" "+p.Message, of) {
				return nil
			}
		}
		return fmt.Errorf("no problem speaks of %s: %+v", of, problems)
	})
}
