// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"braid/test/link"
)

// build makes the nodes from the LAN to the server and connects them.
func (w *World) build(o Options) error {
	for _, n := range []struct {
		node **Node
		name string
	}{{&w.Gateway, "gw"}, {&w.Core, "core"}, {&w.Converter, "mcp"}, {&w.Server, "server"}} {
		var err error
		if *n.node, err = w.node(n.name); err != nil {
			return err
		}
	}
	if err := router(w.Gateway); err != nil {
		return err
	}
	if err := router(w.Core); err != nil {
		return err
	}
	if err := w.buildLAN(o.Hosts); err != nil {
		return err
	}
	if err := w.buildAccesses(o.Accesses); err != nil {
		return err
	}
	if err := w.buildStub(w.Converter, "mcp", Converter4, Converter6, 0); err != nil {
		return err
	}
	return w.buildStub(w.Server, "server", Server4, Server6, o.ServerDelay)
}

// node makes a namespace with its loopback up, in which addresses are ready at once.
func (w *World) node(name string) (*Node, error) {
	n, err := newNode(w.prefix + name)
	if err != nil {
		return nil, err
	}
	w.nodes = append(w.nodes, n)
	return n, errors.Join(
		n.Sysctl("net.ipv6.conf.all.accept_dad", "0"),
		n.Sysctl("net.ipv6.conf.default.accept_dad", "0"),
		n.up("lo"))
}

// router makes a node forward. Its reverse path filter is loose, or the second access network
// of a gateway would be deaf.
func router(n *Node) error {
	return errors.Join(
		n.Sysctl("net.ipv4.ip_forward", "1"),
		n.Sysctl("net.ipv6.conf.all.forwarding", "1"),
		n.Sysctl("net.ipv4.conf.all.rp_filter", "2"),
		n.Sysctl("net.ipv4.conf.default.rp_filter", "2"))
}

func (w *World) buildLAN(hosts int) error {
	gateway := w.Gateway
	if hosts > 1 {
		if err := gateway.bridge("lan0"); err != nil {
			return err
		}
	}
	a4, a6 := Host4, Host6
	for i := range hosts {
		host, err := w.node(fmt.Sprintf("host%d", i+1))
		if err != nil {
			return err
		}
		w.Hosts = append(w.Hosts, host)
		port := "lan0"
		if hosts > 1 {
			port = fmt.Sprintf("lan0p%d", i+1)
		}
		err = errors.Join(
			veth(gateway, port, host, "eth0"),
			host.up("eth0", netip.PrefixFrom(a4, LANPrefix4.Bits()), netip.PrefixFrom(a6, LANPrefix6.Bits())))
		if err != nil {
			return err
		}
		if hosts > 1 {
			if err := gateway.join("lan0", port); err != nil {
				return err
			}
		}
		a4, a6 = a4.Next(), a6.Next()
	}
	err := gateway.up("lan0", netip.PrefixFrom(Gateway4, LANPrefix4.Bits()), netip.PrefixFrom(Gateway6, LANPrefix6.Bits()))
	if err != nil {
		return err
	}
	for _, host := range w.Hosts {
		if err := errors.Join(host.routes(Gateway4, "eth0", all4), host.routes(Gateway6, "eth0", all6)); err != nil {
			return err
		}
	}
	return nil
}

// bridge makes one that is up.
func (n *Node) bridge(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := n.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("creating bridge %s in %s: %w", name, n.Name, err)
	}
	return n.up(name)
}

// join makes a device a port of a bridge.
func (n *Node) join(bridge, port string) error {
	b, err := n.nl.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("finding %s: %w", bridge, err)
	}
	p, err := n.nl.LinkByName(port)
	if err != nil {
		return fmt.Errorf("finding %s: %w", port, err)
	}
	if err := n.nl.LinkSetMaster(p, b); err != nil {
		return fmt.Errorf("adding %s to %s: %w", port, bridge, err)
	}
	return n.up(port)
}

func (w *World) buildAccesses(accesses []Access) error {
	n4, n6 := make(map[V4]int), make(map[Kind]int)
	lanRouted := false
	var masquerade strings.Builder
	for i, a := range accesses {
		wan := number(a, i, n4[a.V4], n6[a.Kind])
		n4[a.V4]++
		n6[a.Kind]++
		wan.gateway = w.Gateway
		wan.RoutesLAN = a.Kind == Fixed && a.V6 && !lanRouted
		lanRouted = lanRouted || wan.RoutesLAN
		if err := w.buildAccess(wan); err != nil {
			return fmt.Errorf("access network %s: %w", a.Name, err)
		}
		w.WANs = append(w.WANs, wan)
		fmt.Fprintf(&masquerade, "oifname %q masquerade\n", a.Name)
	}
	return w.Gateway.nft(`table ip nat {
		chain postrouting {
			type nat hook postrouting priority srcnat
			` + masquerade.String() + `
		}
	}`)
}

func (w *World) buildAccess(wan *WAN) error {
	var err error
	if wan.Router, err = w.node(wan.Name); err != nil {
		return err
	}
	if err := router(wan.Router); err != nil {
		return err
	}
	if err := w.connect(wan); err != nil {
		return err
	}
	r, core := wan.Router, w.Core
	err = errors.Join(
		veth(core, wan.Name, r, "core"),
		core.up(wan.Name, netip.PrefixFrom(wan.core4, 30), netip.PrefixFrom(wan.core6, 64)),
		r.up("core", netip.PrefixFrom(wan.transit4, 30), netip.PrefixFrom(wan.transit6, 64)),
		r.routes(wan.core4, "core", all4),
		r.routes(wan.core6, "core", all6))
	if err != nil {
		return err
	}
	if wan.V4 != None {
		err = errors.Join(err,
			r.up("gw", netip.PrefixFrom(wan.Router4, wan.Gateway4.Bits())),
			core.routes(wan.transit4, wan.Name, netip.PrefixFrom(wan.Public4, 32)))
	}
	if wan.V6 {
		err = errors.Join(err,
			r.up("gw", netip.PrefixFrom(wan.Router6, wan.Gateway6.Bits())),
			core.routes(wan.transit6, wan.Name, wan.Gateway6.Masked()))
	}
	if wan.RoutesLAN {
		err = errors.Join(err,
			r.routes(wan.Gateway6.Addr(), "gw", LANPrefix6),
			core.routes(wan.transit6, wan.Name, LANPrefix6))
	}
	err = errors.Join(err, wan.SetUp(), wan.filter())
	if err == nil && wan.NAT64.IsValid() {
		err = w.buildNAT64(wan)
	}
	return err
}

// filter makes the router drop what has a foreign source address, and translate where the
// gateway has no public one.
func (w *WAN) filter() error {
	rules := `table inet bcp38 {
		chain forward {
			type filter hook forward priority filter
			iifname "gw" fib saddr . iif oif missing drop
		}
	}`
	if w.V4 == Private {
		// An address of its own: what comes unasked is refused, and does not bounce to core.
		if err := w.Router.up("lo", netip.PrefixFrom(w.Public4, 32)); err != nil {
			return err
		}
		rules += fmt.Sprintf(`
		table ip cgnat {
			chain postrouting {
				type nat hook postrouting priority srcnat
				oifname "core" ip saddr %v snat to %v
			}
		}`, w.Gateway4.Masked(), w.Public4)
	}
	return w.Router.nft(rules)
}

func (n *Node) nft(rules string) error {
	_, err := n.Run("nft -f - <<'.'\n" + rules + "\n.\n")
	return err
}

// AddStub makes a node behind the core with addresses of its own, as the converter
// and the server have them.
func (w *World) AddStub(name string, a4, a6 netip.Addr) (*Node, error) {
	n, err := w.node(name)
	if err != nil {
		return nil, err
	}
	return n, w.buildStub(n, name, a4, a6, 0)
}

// buildStub connects a node without forwarding to core.
func (w *World) buildStub(n *Node, name string, a4, a6 netip.Addr, delay time.Duration) error {
	p4, p6 := netip.PrefixFrom(a4, 26), netip.PrefixFrom(a6, 64)
	core4, core6 := p4.Masked().Addr().Next(), p6.Masked().Addr().Next()
	if delay > 0 {
		spec := link.Spec{Delay: delay}
		l, err := emulated(n, "eth0", w.Core, name, spec, spec)
		if err != nil {
			return err
		}
		w.links[name] = l
	} else if err := veth(n, "eth0", w.Core, name); err != nil {
		return err
	}
	return errors.Join(
		n.up("eth0", p4, p6),
		w.Core.up(name, netip.PrefixFrom(core4, p4.Bits()), netip.PrefixFrom(core6, p6.Bits())),
		n.routes(core4, "eth0", all4),
		n.routes(core6, "eth0", all6))
}
