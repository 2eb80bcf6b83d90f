// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"net/netip"

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

// publish registers the object; the client keeps it registered.
func (d *Daemon) publish() error {
	pub, err := d.client.Publish(ubus.Object{Path: ObjectName, Methods: []ubus.Method{
		{Name: "status", Handle: func(context.Context, *ubus.Request) (any, error) { return d.Status(), nil }},
		{Name: "wans", Handle: func(context.Context, *ubus.Request) (any, error) { return d.WANs(), nil }},
		{Name: "connections", Args: []ubus.Arg{{Name: "limit", Type: ubus.Int32}, {Name: "offset", Type: ubus.Int32}, {Name: "wan", Type: ubus.String}},
			Handle: d.handleConnections},
		{Name: "explain", Args: []ubus.Arg{{Name: "dest", Type: ubus.String}, {Name: "port", Type: ubus.Int32}, {Name: "proto", Type: ubus.String}, {Name: "src", Type: ubus.String}},
			Handle: d.handleExplain},
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
	}{Limit: defaultConnections}
	if err := r.Args(&args); err != nil {
		return nil, err
	}
	if args.Limit < 1 || args.Limit > maxConnections || args.Offset < 0 {
		return nil, fmt.Errorf("limit %d, offset %d: %w", args.Limit, args.Offset, ubus.ErrInvalidArgument)
	}
	return d.Connections(args.Limit, args.Offset, args.WAN), nil
}

func (d *Daemon) handleExplain(_ context.Context, r *ubus.Request) (any, error) {
	args := struct {
		Dest string `json:"dest"`
		Port uint16 `json:"port"`
	}{Port: 443}
	if err := r.Args(&args); err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(args.Dest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ubus.ErrInvalidArgument, err)
	}
	return d.Explain(netip.AddrPortFrom(a.Unmap(), args.Port))
}

func (d *Daemon) handleReload(ctx context.Context, _ *ubus.Request) (any, error) {
	doneC := make(chan error, 1)
	select {
	case d.reload <- doneC:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	err := <-doneC
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	return report.Reload{OK: err == nil, Problems: report.Problems(d.state.problems)}, nil
}

func (d *Daemon) notifyConfig(ctx context.Context, ok bool, problems config.Problems) {
	d.send(ctx, "braid.config", map[string]any{"ok": ok, "problems": report.Problems(problems)})
}

// send tells listeners and subscribers; without a bus there are none.
func (d *Daemon) send(ctx context.Context, event string, v any) {
	if s, _ := d.client.State(); !s.Connected {
		return
	}
	if err := d.client.Send(ctx, event, v); err != nil {
		d.log.Warn("sending event", "event", event, "error", err)
	}
	if err := d.object.Notify(ctx, event, v); err != nil {
		d.log.Warn("notifying", "event", event, "error", err)
	}
}
