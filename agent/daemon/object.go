// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"braid/agent/config"
	"braid/agent/report"
	"braid/agent/ubus"
)

// ObjectName is the name of the agent's object on ubus.
const ObjectName = "braid"

// Limits of the method "connections".
const (
	defaultConnections = 100
	maxConnections     = 500
)

// probeTimeout bounds the method "probe".
const probeTimeout = 5 * time.Second

// publish registers the object; the client keeps it registered.
func (d *Daemon) publish() error {
	pub, err := d.client.Publish(ubus.Object{Path: ObjectName, Methods: []ubus.Method{
		{Name: "status", Handle: func(context.Context, *ubus.Request) (any, error) { return d.view.Status(), nil }},
		{Name: "wans", Handle: func(context.Context, *ubus.Request) (any, error) { return d.view.WANs(), nil }},
		{Name: "connections", Args: []ubus.Arg{{Name: "limit", Type: ubus.Int32}, {Name: "offset", Type: ubus.Int32}, {Name: "wan", Type: ubus.String}, {Name: "host", Type: ubus.String}},
			Handle: d.handleConnections},
		{Name: "explain", Args: []ubus.Arg{{Name: "dest", Type: ubus.String}, {Name: "port", Type: ubus.Int32}, {Name: "proto", Type: ubus.String}, {Name: "src", Type: ubus.String}},
			Handle: d.handleExplain},
		{Name: "set", Args: []ubus.Arg{{Name: "wan", Type: ubus.String}, {Name: "role", Type: ubus.String}, {Name: "quota_used", Type: ubus.Int64}}, Handle: d.handleSet},
		{Name: "history", Args: []ubus.Arg{{Name: "span", Type: ubus.Int32}}, Handle: d.handleHistory},
		{Name: "events", Args: []ubus.Arg{{Name: "since", Type: ubus.Int32}}, Handle: d.handleEvents},
		{Name: "check", Args: []ubus.Arg{{Name: "sections", Type: ubus.Array}}, Handle: d.handleCheck},
		{Name: "try", Args: []ubus.Arg{{Name: "section", Type: ubus.Table}}, Handle: d.handleTry},
		{Name: "probe", Args: []ubus.Arg{{Name: "wan", Type: ubus.String}}, Handle: d.handleProbe},
		{Name: "reload", Handle: d.handleReload},
	}})
	if err != nil {
		return fmt.Errorf("publishing on ubus: %w", err)
	}
	d.object = pub
	return nil
}

func (d *Daemon) handleConnections(_ context.Context, r *ubus.Request) (any, error) {
	args := struct {
		Limit  int    `json:"limit"`
		Offset int    `json:"offset"`
		WAN    string `json:"wan"`
		Host   string `json:"host"`
	}{Limit: defaultConnections}
	if err := r.Args(&args); err != nil {
		return nil, err
	}
	if args.Limit < 1 || args.Limit > maxConnections || args.Offset < 0 {
		return nil, fmt.Errorf("limit %d, offset %d: %w", args.Limit, args.Offset, ubus.ErrInvalidArgument)
	}
	return d.view.Connections(args.Limit, args.Offset, args.WAN, args.Host)
}

func (d *Daemon) handleExplain(ctx context.Context, r *ubus.Request) (any, error) {
	args := struct {
		Dest  string       `json:"dest"`
		Port  uint16       `json:"port"`
		Proto config.Proto `json:"proto"`
		Src   netip.Addr   `json:"src"`
	}{Port: 443, Proto: config.ProtoTCP}
	if err := r.Args(&args); err != nil {
		return nil, err
	}
	if !slices.Contains([]config.Proto{config.ProtoTCP, config.ProtoUDP, config.ProtoICMP}, args.Proto) {
		return nil, fmt.Errorf("proto %q: %w", args.Proto, ubus.ErrInvalidArgument)
	}
	found, err := lookup(ctx, args.Dest)
	if err != nil {
		return nil, err
	}
	return d.view.Explain(ctx, args.Src.Unmap(), netip.AddrPortFrom(found[0], args.Port), args.Proto)
}

func (d *Daemon) handleSet(ctx context.Context, r *ubus.Request) (any, error) {
	var args struct {
		WAN       string      `json:"wan"`
		Role      config.Role `json:"role"`
		QuotaUsed *uint64     `json:"quota_used"`
	}
	if err := r.Args(&args); err != nil {
		return nil, err
	}
	roles := []config.Role{config.RolePrimary, config.RoleBond, config.RoleOverflow, config.RoleBackup, config.RoleOff}
	if !slices.Contains(roles, args.Role) && (args.Role != "" || args.QuotaUsed == nil) {
		return nil, fmt.Errorf("role %q: %w", args.Role, ubus.ErrInvalidArgument)
	}
	var found error
	err := d.inLoop(ctx, func(_ context.Context, l *loop) {
		if found = l.view.Has(args.WAN); found == nil && args.QuotaUsed != nil {
			found = l.setUsed(args.WAN, *args.QuotaUsed)
		}
		if found == nil && args.Role != "" {
			l.override(args.WAN, args.Role)
		}
	})
	if err != nil {
		return nil, err
	}
	return nil, found
}

// override sets a role until the configuration is read again. There is one
// primary: the last that was set.
func (l *loop) override(wan string, role config.Role) {
	overrides := map[string]config.Role{wan: role}
	for name, r := range l.overrides {
		if name != wan && (r != config.RolePrimary || role != config.RolePrimary) {
			overrides[name] = r
		}
	}
	l.overrides = overrides
	l.log.Info("role set", "wan", wan, "role", role)
}

func (d *Daemon) handleProbe(ctx context.Context, r *ubus.Request) (any, error) {
	var args struct {
		WAN string `json:"wan"`
	}
	if err := r.Args(&args); err != nil {
		return nil, err
	}
	if err := d.view.Has(args.WAN); err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if d.health.Probe(bounded, args.WAN) != nil {
		return nil, fmt.Errorf("probing %s: %w", args.WAN, ubus.ErrTimeout)
	}
	// The verdict is not in force before the loop has seen it.
	if err := d.inLoop(ctx, func(context.Context, *loop) {}); err != nil {
		return nil, err
	}
	wans := d.view.WANs().WANs
	i := slices.IndexFunc(wans, func(w report.WAN) bool { return w.Name == args.WAN })
	if i < 0 { // reloaded meanwhile
		return nil, fmt.Errorf("WAN %q: %w", args.WAN, ubus.ErrNotFound)
	}
	return wans[i], nil
}

func (d *Daemon) handleReload(ctx context.Context, _ *ubus.Request) (any, error) {
	var failed error
	if err := d.inLoop(ctx, func(ctx context.Context, l *loop) { failed = l.load(ctx) }); err != nil {
		return nil, err
	}
	return report.Reload{OK: failed == nil, Problems: d.view.Problems()}, nil
}

// request is something the loop is to do before it updates.
type request struct {
	do    func(context.Context, *loop)
	doneC chan struct{} // closed after the update
}

// inLoop has the loop do something and update, and waits for both.
func (d *Daemon) inLoop(ctx context.Context, do func(context.Context, *loop)) error {
	r := request{do: do, doneC: make(chan struct{})}
	select {
	case d.requestC <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-r.doneC
	return nil
}
