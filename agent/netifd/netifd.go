// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package netifd asks OpenWrt's interface manager for its interfaces, and
// follows them.
package netifd

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"braid/agent/netstate"
	"braid/agent/ubus"
)

const (
	object = "network.interface"
	// timeout bounds one question to netifd, retry is when it is asked again
	// after it gave no answer.
	timeout = 2 * time.Second
	retry   = time.Second
	// tableMain is where routes are without a table of their own.
	tableMain = 254
)

// Monitor keeps what netifd last said of its interfaces. While it restarts that
// stays as it was, and the kernel tells what has become of the devices.
type Monitor struct {
	client   *ubus.Client
	wakeC    chan struct{} // read again
	changedC chan struct{} // there is something new

	mu         sync.Mutex
	interfaces []netstate.Interface
}

// NewMonitor makes a monitor that knows of no interface yet.
func NewMonitor(c *ubus.Client) *Monitor {
	return &Monitor{client: c, wakeC: make(chan struct{}, 1), changedC: make(chan struct{}, 1)}
}

// Changed receives when there is something new.
func (n *Monitor) Changed() <-chan struct{} { return n.changedC }

// Interfaces are netifd last said, sorted by name; nil where there is none.
func (n *Monitor) Interfaces() []netstate.Interface {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.interfaces
}

// ReadFirst asks before the client runs, so that the first plan knows the
// interfaces. Where there is no ubus yet, Run will see to it.
func (n *Monitor) ReadFirst(ctx context.Context, socket string) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client, err := ubus.Dial(ctx, socket)
	if err != nil {
		return
	}
	defer client.Close()
	if interfaces, err := dumpInterfaces(ctx, client); err == nil {
		n.set(interfaces)
	}
}

// Run follows netifd until ctx ends. Its notifications are hints only.
func (n *Monitor) Run(ctx context.Context) error {
	sub, err := n.client.Subscribe(ubus.Subscription{
		Path:   object,
		Notify: func(ubus.Event) { hint(n.wakeC) },
		Active: func(there bool) {
			if there {
				hint(n.wakeC)
			}
		},
	})
	if err != nil {
		return err
	}
	defer sub.Remove()
	var retryC <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.wakeC:
		case <-retryC:
		}
		retryC = nil
		bounded, cancel := context.WithTimeout(ctx, timeout)
		interfaces, err := dumpInterfaces(bounded, n.client)
		cancel()
		switch {
		case err == nil:
			n.set(interfaces)
		case !errors.Is(err, ubus.ErrNotFound): // Active tells when it is back
			retryC = time.After(retry)
		}
	}
}

func (n *Monitor) set(interfaces []netstate.Interface) {
	n.mu.Lock()
	changed := !slices.EqualFunc(interfaces, n.interfaces, netstate.Interface.Equal)
	n.interfaces = interfaces
	n.mu.Unlock()
	if changed {
		hint(n.changedC)
	}
}

// dumpInterfaces asks netifd for its interfaces (netifd, ubus.c).
func dumpInterfaces(ctx context.Context, c *ubus.Client) ([]netstate.Interface, error) {
	var answer struct {
		Interfaces []dumped `json:"interface"`
	}
	if err := c.Call(ctx, object, "dump", struct{}{}, &answer); err != nil {
		return nil, err
	}
	interfaces := make([]netstate.Interface, 0, len(answer.Interfaces))
	for _, d := range answer.Interfaces {
		interfaces = append(interfaces, netstate.Interface{
			Name: d.Interface, Up: d.Up, L3Device: cmp.Or(d.L3Device, d.Device), Proto: d.Proto, Parent: d.parent(answer.Interfaces),
			DNS: d.DNS, Prefixes: d.prefixes(), Defaults: d.defaults(),
		})
	}
	sort.Slice(interfaces, func(i, j int) bool { return interfaces[i].Name < interfaces[j].Name })
	return interfaces, nil
}

// dumped is an interface as netifd tells of it. One that is down has no
// l3_device; an alias of another has no device.
type dumped struct {
	Interface string       `json:"interface"`
	Up        bool         `json:"up"`
	Dynamic   bool         `json:"dynamic"`
	Proto     string       `json:"proto"`
	L3Device  string       `json:"l3_device"`
	Device    string       `json:"device"`
	DNS       []netip.Addr `json:"dns-server"`
	Prefixes  []struct {
		Address netip.Addr `json:"address"`
		Mask    int        `json:"mask"`
	} `json:"ipv6-prefix"`
	Routes []struct {
		Target  string `json:"target"`
		Mask    int    `json:"mask"`
		NextHop string `json:"nexthop"`
		Table   int    `json:"table"`
		Metric  int    `json:"metric"`
		Source  string `json:"source"`
	} `json:"route"`
}

// defaults are the default routes. The unspecified address stands for none, a
// source is a preferred one in IPv4 and a prefix that the route is for in IPv6.
func (d dumped) defaults() (all []netstate.Default) {
	for _, r := range d.Routes {
		target, err := netip.ParseAddr(r.Target)
		if err != nil || r.Mask != 0 || !target.IsUnspecified() {
			continue
		}
		route := netstate.Default{IPv6: target.Is6(), Table: cmp.Or(r.Table, tableMain), Metric: r.Metric}
		if hop, err := netip.ParseAddr(r.NextHop); err == nil && !hop.IsUnspecified() {
			route.Gateway = hop
		}
		if source, err := netip.ParsePrefix(r.Source); err == nil && source.IsSingleIP() {
			route.Source = source.Addr()
		}
		all = append(all, route)
	}
	return all
}

func (d dumped) prefixes() (ps []netip.Prefix) {
	for _, p := range d.Prefixes {
		ps = append(ps, netip.PrefixFrom(p.Address, p.Mask))
	}
	return ps
}

// parent is the interface that a dynamic one was made for. netifd does not
// tell, but the scripts that make them all add _ and something to its name.
func (d dumped) parent(all []dumped) (name string) {
	if !d.Dynamic {
		return ""
	}
	for _, p := range all {
		if strings.HasPrefix(d.Interface, p.Interface+"_") && len(p.Interface) > len(name) {
			name = p.Interface
		}
	}
	return name
}

func hint(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
