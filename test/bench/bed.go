// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// mptcpPort is where the bare world's server speaks MPTCP.
const mptcpPort = rig.Port + 1

// bed is where a row is measured: two worlds with the same lines, of which
// only one is busy at a time.
type bed struct {
	braid *rig.Rig // with agent and converter
	bare  *rig.Rig // without; its gateway has MPTCP endpoints of its own
}

func (b *bench) bed(ctx context.Context, o lab.Options) (_ *bed, err error) {
	ctx = context.WithoutCancel(ctx) // it is ended by close, in good order
	d := new(bed)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.braid, err = b.carrying(ctx, o); err != nil {
		return d, err
	}
	d.bare, err = b.without(ctx, o)
	return d, err
}

// carrying is a world with braid, for its two lines.
func (b *bench) carrying(ctx context.Context, o lab.Options) (*rig.Rig, error) {
	return b.configured(ctx, o, rig.DefaultUCI)
}

func (b *bench) configured(ctx context.Context, o lab.Options, uci string) (*rig.Rig, error) {
	return rig.New(ctx, rig.Options{
		Lab: o, Bin: b.bin,
		UCI: strings.Replace(uci, "'debug'", "'warn'", 1),
		MCP: []string{"-client", "0.0.0.0/0", "-client", "::/0", "-log", "warn"},
	})
}

// without is a world in which the kernel has to do.
func (b *bench) without(ctx context.Context, o lab.Options) (_ *rig.Rig, err error) {
	r, err := rig.New(ctx, rig.Options{Lab: o, Bin: b.bin, Idle: true})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if _, err := r.Serve(r.Server, true, mptcpPort); err != nil {
		return nil, err
	}
	script := "ip mptcp limits set subflows 8\n"
	if _, err := r.Server.Run(script); err != nil {
		return nil, err
	}
	for _, w := range r.WANs {
		script += fmt.Sprintf("ip mptcp endpoint add %v dev %s subflow\n", w.Gateway4.Addr(), w.Name)
	}
	_, err = r.Gateway.Run(script)
	return r, err
}

func (d *bed) close() error {
	var errs []error
	for _, r := range []*rig.Rig{d.braid, d.bare} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	return errors.Join(errs...)
}

// alone is plain TCP of a LAN host, forwarded over the first line.
func (d *bed) alone() traffic.Dial { return d.bare.FromHost(lab.Server4) }

func (d *bed) kernel() traffic.Dial { return kernel(d.bare) }

// kernel is MPTCP from the gateway to the server, over all lines, without a
// proxy.
func kernel(r *rig.Rig) traffic.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		dialer.SetMultipathTCP(true)
		c, err := r.Gateway.Dial(ctx, dialer, "tcp", netip.AddrPortFrom(lab.Server4, mptcpPort).String())
		if err != nil {
			return nil, err
		}
		tcp := c.(*net.TCPConn)
		ok, err := tcp.MultipathTCP()
		if !ok {
			c.Close()
			return nil, errors.Join(errors.New("the server does not speak MPTCP"), err)
		}
		// Unless it is reset, a closed MPTCP connection takes data for another minute
		// (kernel 6.18), to the cost of whatever is measured next.
		return c, tcp.SetLinger(0)
	}
}

// carried is plain TCP of a LAN host that braid carries.
func (d *bed) carried() traffic.Dial { return d.braid.FromHost(lab.Server4) }

// check makes sure that braid has carried all that went through it.
func (d *bed) check() error { return check(d.braid) }

func check(r *rig.Rig) error {
	s, err := r.Status()
	if err != nil {
		return err
	}
	if c := s.Connections; c.Total == 0 || c.Convert != c.Total || c.TCPFallback > 0 {
		return fmt.Errorf("braid has not carried everything over MPTCP: %+v", c)
	}
	return nil
}
