// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"braid/agent/ubus"
)

// Netifd plays OpenWrt's netifd, on a bus that is there before the agent: what it tells of
// interfaces. What it would do to the kernel has to be done by others.
type Netifd struct {
	object *ubus.Publication

	mu         sync.Mutex
	interfaces []Interface
}

// Interface is one in the answer of network.interface's method dump (netifd, ubus.c). One that is
// down has nothing but its name, protocol and device.
type Interface struct {
	Name        string           `json:"interface"`
	Up          bool             `json:"up"`
	Dynamic     bool             `json:"dynamic"`
	L3Device    string           `json:"l3_device,omitempty"`
	Proto       string           `json:"proto"`
	Device      string           `json:"device,omitempty"`
	IP4Table    int              `json:"ip4table,omitempty"`
	IP6Table    int              `json:"ip6table,omitempty"`
	Metric      int              `json:"metric"`
	IPv4        []Address        `json:"ipv4-address"`
	IPv6        []Address        `json:"ipv6-address"`
	Prefixes    []Address        `json:"ipv6-prefix"`
	Assignments []map[string]any `json:"ipv6-prefix-assignment"`
	Routes      []Route          `json:"route"`
	DNS         []string         `json:"dns-server"`
	Data        map[string]any   `json:"data"`
}

// Address is an address of an interface, or a prefix.
type Address struct {
	Address string `json:"address"`
	Mask    int    `json:"mask"`
	Peer    string `json:"ptpaddress,omitempty"`
}

// Route is a route of an interface's. An interface's own table (ip4table) shows there alone.
type Route struct {
	Target  string `json:"target"`
	Mask    int    `json:"mask"`
	NextHop string `json:"nexthop"`
	Metric  int    `json:"metric,omitempty"`
	Table   int    `json:"table,omitempty"`
	Source  string `json:"source"`
}

// Addresses are those of prefixes.
func Addresses(prefixes ...netip.Prefix) (all []Address) {
	for _, p := range prefixes {
		all = append(all, Address{Address: p.Addr().String(), Mask: p.Bits()})
	}
	return all
}

// Default is the default route by a router, which is unspecified where there is none.
func Default(router netip.Addr) Route {
	target, source := "0.0.0.0", "0.0.0.0/0"
	if router.Is6() {
		target, source = "::", "::/0"
	}
	return Route{Target: target, NextHop: router.String(), Source: source}
}

// StartNetifd starts a bus, and netifd on it. The agent has to be started after it.
func (r *Rig) StartNetifd(interfaces ...Interface) (*Netifd, error) {
	broker := ubus.NewBroker(r.Socket())
	go broker.Run(r.ctx)
	select {
	case <-broker.Ready():
	case <-time.After(time.Second):
		return nil, fmt.Errorf("no bus at %s", r.Socket())
	}
	r.bus = true
	c, err := ubus.Dial(r.ctx, r.Socket())
	if err != nil {
		return nil, err
	}
	context.AfterFunc(r.ctx, func() { c.Close() })
	n := &Netifd{interfaces: interfaces}
	n.object, err = c.Publish(ubus.Object{Path: "network.interface", Methods: []ubus.Method{{Name: "dump", Handle: n.dump}}})
	return n, err
}

func (n *Netifd) dump(context.Context, *ubus.Request) (any, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return map[string]any{"interface": slices.Clone(n.interfaces)}, nil
}

// Set changes interfaces, which are known by their names, adds those that are not there, and
// notifies of each as netifd does.
func (n *Netifd) Set(ctx context.Context, interfaces ...Interface) error {
	for _, in := range interfaces {
		n.mu.Lock()
		i := slices.IndexFunc(n.interfaces, func(o Interface) bool { return o.Name == in.Name })
		if i < 0 {
			n.interfaces = append(n.interfaces, in)
		} else {
			n.interfaces[i] = in
		}
		n.mu.Unlock()
		event := "interface.update"
		if !in.Up {
			event = "interface.down"
		}
		if err := n.object.Notify(ctx, event, map[string]any{"interface": in.Name}); err != nil {
			return fmt.Errorf("notifying of %s: %w", in.Name, err)
		}
	}
	return nil
}
