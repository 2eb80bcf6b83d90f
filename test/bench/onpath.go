// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
	"braid/transport/mptcp"
)

// onPath measures what a converter on the path costs those who do not ask for
// it, and what a box for many homes would need.
func (b *bench) onPath(ctx context.Context) (err error) {
	s, err := rig.NewStreet(context.WithoutCancel(ctx), b.bin, lab.Access{}, lab.Access{}, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	quiet := strings.Replace(rig.OnPath, `"debug"`, `"warn"`, 1)
	if err := b.onPathSetUp(ctx, s, quiet); err != nil {
		return err
	}
	if err := b.onPathRates(ctx, s); err != nil {
		return err
	}
	return b.onPathMemory(ctx, s)
}

// onPathSetUp compares how long it takes to connect.
func (b *bench) onPathSetUp(ctx context.Context, s *rig.Street, config string) error {
	n := 67 * b.repeat
	t := newTable(fmt.Sprintf("On the path: time to connect, us, median of %d", n), "MPTCP", "TCP")
	row := func(name string, before string) error {
		var cells []string
		for _, port := range []uint16{rig.MPTCPPort, rig.Port} {
			var us []float64
			for range n {
				if before != "" {
					if _, err := s.Box.Run(before); err != nil {
						return err
					}
				}
				start := time.Now()
				c, err := s.Dial(port)(ctx)
				if err != nil {
					return err
				}
				us = append(us, float64(time.Since(start).Microseconds()))
				c.(*mptcp.Conn).Reset()
			}
			cells = append(cells, fmt.Sprintf("%.0f", median(us)))
		}
		t.row(name, cells...)
		return nil
	}
	if err := row("without a converter", ""); err != nil {
		return err
	}
	if err := s.Start(config); err != nil {
		return err
	}
	return errors.Join(
		row("first connection to a server", "nft flush set inet braid_mcp plain_ip; nft flush set inet braid_mcp capable_ip"),
		row("later ones", ""))
}

// onPathRates tells what goes over each of two unshaped lines.
func (b *bench) onPathRates(ctx context.Context, s *rig.Street) error {
	const length = 3 * time.Second
	t := newTable(fmt.Sprintf("On the path: Mbit/s of one download, unshaped, %v", length), "both", "lte")
	for _, c := range []struct {
		name string
		port uint16
		lend bool
	}{
		{"forwarded, nothing lent", rig.MPTCPPort, false},
		{"forwarded, address lent", rig.MPTCPPort, true},
		{"converted", rig.Port, true},
	} {
		limits := "ip mptcp limits set subflows 8 add_addr_accepted 8"
		if !c.lend {
			limits = "ip mptcp limits set subflows 8 add_addr_accepted 0"
		}
		if _, err := s.Client.Run(limits); err != nil {
			return err
		}
		var both, lte []float64
		for range b.repeat {
			before, err := received(s.Client, "lte")
			if err != nil {
				return err
			}
			rep, err := s.Dial(c.port).Do(ctx, traffic.Download, traffic.Request{Bytes: traffic.Endless, For: length})
			if err != nil {
				return err
			}
			after, err := received(s.Client, "lte")
			if err != nil {
				return err
			}
			both = append(both, rep.Rate()/1e6)
			lte = append(lte, float64(after-before)*8/rep.Duration.Seconds()/1e6)
		}
		t.row(c.name, fmt.Sprintf("%.0f", median(both)), fmt.Sprintf("%.0f", median(lte)))
	}
	return nil
}

func received(n *lab.Node, device string) (int64, error) {
	out, err := n.Run("cat /sys/class/net/" + device + "/statistics/rx_bytes")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(out), 10, 64)
}

// onPathMemory holds forwarded connections open.
func (b *bench) onPathMemory(ctx context.Context, s *rig.Street) error {
	const many, port = 2000, 9000
	var lc net.ListenConfig
	lc.SetMultipathTCP(true)
	l, err := s.Server.Listen(ctx, lc, "tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	before, err := s.MCP.Usage()
	if err != nil {
		return err
	}
	seen, err := onPathStatus(s)
	if err != nil {
		return err
	}
	var conns []*mptcp.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	start := time.Now()
	err = s.Client.Do(func() error {
		for range many {
			c, err := new(mptcp.Dialer).Dial(ctx, netip.Addr{}, netip.AddrPortFrom(lab.Server4, port), nil)
			if err != nil {
				return err
			}
			conns = append(conns, c)
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				return err
			}
		}
		return nil
	})
	took := time.Since(start)
	if err != nil {
		return err
	}
	// It works on while nobody waits for it; the client's kernel takes a minute for
	// all joins.
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	now, err := onPathStatus(s)
	if err != nil {
		return err
	}
	after, err := s.MCP.Usage()
	if err != nil {
		return err
	}
	t := newTable(fmt.Sprintf("On the path: %d forwarded connections, opened one after the other", many),
		"per second", "packets shown, each", "joins, each", "CPU, us each", "program's memory, kB")
	each := func(n int) string { return fmt.Sprintf("%.1f", float64(n)/many) }
	t.row("", fmt.Sprintf("%.0f", many/took.Seconds()), each(now.Shown-seen.Shown), each(now.Joined-seen.Joined),
		fmt.Sprintf("%.0f", float64((after.CPU-before.CPU).Microseconds())/many),
		fmt.Sprintf("%d", (after.Resident-before.Resident)>>10))
	return nil
}

type onPathSeen struct{ Shown, Joined int }

func onPathStatus(s *rig.Street) (onPathSeen, error) {
	out, err := s.ConverterStatus()
	if err != nil {
		return onPathSeen{}, err
	}
	var st struct {
		OnPath *onPathSeen `json:"on_path"`
	}
	if err := json.Unmarshal(out, &st); err != nil {
		return onPathSeen{}, err
	}
	if st.OnPath == nil {
		return onPathSeen{}, fmt.Errorf("the converter does not stand on the path: %w", os.ErrNotExist)
	}
	return *st.OnPath, nil
}
