// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"braid/agent/config"
	"braid/agent/converter"
	"braid/agent/path"
	"braid/agent/report"
	"braid/agent/ubus"
	"braid/agent/uci"
)

// lookupTimeout bounds the look-up of a name that a question is about.
const lookupTimeout = 4 * time.Second

// handleCheck validates sections as they would be, or those of the file.
func (d *Daemon) handleCheck(ctx context.Context, r *ubus.Request) (any, error) {
	var args struct {
		Sections []map[string]any `json:"sections"`
	}
	if err := r.Args(&args); err != nil {
		return nil, err
	}
	p := uci.Package{Path: filepath.Join(d.UCI, "braid")}
	var err error
	if args.Sections == nil {
		p, err = uci.Load(d.UCI, "braid")
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else if p.Sections, err = uci.FromList(args.Sections); err != nil {
		return nil, fmt.Errorf("%w: %w", ubus.ErrInvalidArgument, err)
	}
	if err != nil {
		return report.Reload{Problems: []report.Problem{{Section: "braid", Message: err.Error()}}}, nil
	}
	_, problems := config.Parse(p)
	return report.Reload{OK: problems.Err() == nil, Problems: report.Problems(problems)}, nil
}

// handleTry asks a converter that need not be in the configuration yet.
func (d *Daemon) handleTry(ctx context.Context, r *ubus.Request) (any, error) {
	var args struct {
		Section map[string]any `json:"section"`
	}
	if err := r.Args(&args); err != nil {
		return nil, err
	}
	sections, err := uci.FromList([]map[string]any{args.Section})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ubus.ErrInvalidArgument, err)
	}
	c, problems := config.Parse(uci.Package{Sections: sections})
	if err := problems.Err(); err != nil {
		return report.Try{State: path.ConverterDown.String(), Reason: problems[0].Message}, nil
	}
	if len(c.Converters) != 1 {
		return nil, fmt.Errorf("%d converters: %w", len(c.Converters), ubus.ErrInvalidArgument)
	}
	return d.try(ctx, c.Converters[0])
}

// try asks a converter over the WANs that a connection would take or, while
// there are none in the configuration, by the default route.
func (d *Daemon) try(ctx context.Context, c config.Converter) (report.Try, error) {
	if c.OnPath != "" {
		return report.Try{State: path.ConverterUnknown.String(), Reason: "it stands on the path of " + c.OnPath + ", and is asked by nobody"}, nil
	}
	tried := report.Try{State: path.ConverterDown.String()}
	if c.SRV != "" {
		found, err := d.resolver.Locate(ctx, c.SRV)
		if err != nil {
			tried.Reason = err.Error()
			return tried, nil
		}
		c.Addresses, c.Port = []config.Host{{Name: found[0].Host}}, found[0].Port
	}
	asked := path.Converter{Name: c.Name, Key: c.Key, Cookie: c.Cookie}
	for _, h := range c.Addresses {
		found, err := lookup(ctx, h.String())
		if err != nil {
			tried.Reason = err.Error()
		}
		for _, a := range found {
			asked.Addrs = append(asked.Addrs, netip.AddrPortFrom(a, c.Port))
		}
	}
	if len(asked.Addrs) == 0 {
		return tried, nil
	}
	t := converter.Target{Name: c.Name, Key: string(c.Key), Cookie: string(c.Cookie), Ways: []converter.Way{{Way: path.Way{Peer: asked.Addrs[0]}}}}
	if n := d.proxy.Network(); n != nil && len(n.Legs) > 0 {
		ts := converter.Targets(path.New(n.Legs, []path.Converter{asked}, n.Fallback))
		if len(ts) == 0 {
			tried.Reason = "no WAN has its address family"
			return tried, nil
		}
		t = ts[0]
	}
	s := d.converters.Try(ctx, t)
	tried.State, tried.RTT, tried.Reason = s.State.String(), report.Milliseconds(s.RTT), ""
	if s.Err != nil {
		tried.Reason = s.Err.Error()
	}
	return tried, nil
}

// lookup takes an address, or a name whose addresses it finds: at least one.
func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if host == "" || strings.ContainsAny(host, ":/ []") {
		return nil, fmt.Errorf("%q is no address and no name: %w", host, ubus.ErrInvalidArgument)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w: %w", host, err, ubus.ErrNotFound)
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found, nil
}
