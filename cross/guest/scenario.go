// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/link"
	"braid/test/traffic"
)

// configuration is what a user of the laboratory's gateway would write.
const configuration = `config globals 'globals'
	option enabled '1'
	list lan 'lan0'

config wan 'fibre'
	option device 'fibre'
	option role 'primary'

config wan 'lte'
	option device 'lte'
	option kind 'cellular'
	option role 'bond'

config converter 'mcp'
	list address '192.0.2.10'
	option key '8f1c0b7e5d2a4936a7c4e1f0b3d28596174e6c8d9a0b1f2e3d4c5b6a79808f9e'
`

const converterConfiguration = `[[client]]
name = "gateway"
key = "8f1c0b7e5d2a4936a7c4e1f0b3d28596174e6c8d9a0b1f2e3d4c5b6a79808f9e"
`

const (
	serverPort = 8080
	transfer   = 2_000_000

	// patience is how long a check waits. One change of the network takes ten
	// seconds to reach the packet filter where transfers take all of an emulated
	// processor.
	patience = time.Minute
)

// scenario runs all checks in turn and tells how many failed. The first
// failure ends it: each check builds on those before.
func scenario() (fails int) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	g := &guest{ctx: ctx}
	for _, check := range []struct {
		name string
		run  func() (string, error)
	}{
		{"packaged program and configuration", g.packaged},
		{"laboratory", g.build},
		{"converter and agent start", g.start},
		{"LAN connection is converted", g.converted},
		{"two subflows carry it", g.bonded},
		{"a line dies, the connection does not", g.failover},
		{"status over ubus", g.status},
		{"line returns to the connection", g.returns},
		{"agent stops and leaves nothing behind", g.stop},
	} {
		began := time.Now()
		said, err := check.run()
		if err != nil {
			fmt.Printf("FAIL %s: %v\n", check.name, err)
			fmt.Print(g.logs())
			return 1
		}
		fmt.Printf("ok   %s (%v) %s\n", check.name, time.Since(began).Round(time.Millisecond), said)
	}
	return 0
}

type guest struct {
	ctx       context.Context
	world     *lab.World
	agent     *process
	converter *process
	before    string // state of the gateway's kernel before the agent came

	download      net.Conn
	received      func() int64 // of the download
	downloadDoneC chan error
}

// packaged looks at what the package has brought.
func (g *guest) packaged() (string, error) {
	out, err := g.braid("version")
	if err != nil {
		return "", err
	}
	if _, err := g.braid("check"); err != nil {
		return "", fmt.Errorf("the configuration that is installed: %w", err)
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("braid %s on Linux %s", strings.TrimSpace(out), strings.TrimSpace(string(release))), err
}

func (g *guest) build() (_ string, err error) {
	// Both have public addresses: translating takes an nft of its own.
	lte := lab.LTE(link.Spec{}, link.Spec{})
	lte.V4 = lab.Public
	o := lab.Options{Accesses: []lab.Access{lab.Fibre(link.Spec{}, link.Spec{}), lte}, Veth: true}
	if g.world, err = lab.New(g.ctx, o); err != nil {
		return "", err
	}
	for name, rate := range map[string]uint64{"fibre": 6e6, "lte": 3e6} {
		if err := g.limit(name, rate); err != nil {
			return "", fmt.Errorf("limiting %s: %w", name, err)
		}
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := g.world.Server.Listen(g.ctx, lc, "tcp", fmt.Sprint(":", serverPort))
	if err != nil {
		return "", err
	}
	traffic.Serve(l)
	g.before, err = g.kernel()
	return "", err
}

func (g *guest) start() (_ string, err error) {
	for _, dir := range []string{"/tmp/config", "/var/run"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	err = errors.Join(
		os.WriteFile("/tmp/config/braid", []byte(configuration), 0o600),
		os.WriteFile("/tmp/braid-mcp.toml", []byte(converterConfiguration), 0o600))
	if err != nil {
		return "", err
	}
	if g.converter, err = g.launch(g.world.Converter, "/usr/bin/braid-mcp", "serve", "-config", "/tmp/braid-mcp.toml"); err != nil {
		return "", err
	}
	if g.agent, err = g.launch(g.world.Gateway, "/usr/sbin/braid", "agent", "-uci", "/tmp/config", "-ubus", socket, "-standalone"); err != nil {
		return "", err
	}
	var s report.Status
	err = g.eventually(patience, func() error {
		if err := g.ask(&s, "status"); err != nil {
			return err
		}
		if s.State != report.StateOK || s.Firewall == "" {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	return fmt.Sprintf("state %s, firewall %s", s.State, s.Firewall), err
}

// converted makes transfers in which every byte is checked.
func (g *guest) converted() (string, error) {
	// Interception takes its time to begin, on machines as slow as this.
	err := g.eventually(patience, func() error {
		peer, err := g.dial().Identify(g.ctx)
		if err == nil && peer.Remote.Addr() != lab.Converter4 {
			err = fmt.Errorf("the server was called by %v, and not by the converter", peer.Remote)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	// An agent that gets no processor time for a while fails open, so a machine
	// as slow as this has three tries.
	var text string
	for range 3 {
		if text, err = g.transfers(); err == nil {
			break
		}
	}
	return text, err
}

// transfers fails if not both of them were converted.
func (g *guest) transfers() (string, error) {
	var before, after report.Status
	if err := g.ask(&before, "status"); err != nil {
		return "", err
	}
	var texts []string
	for _, op := range []traffic.Op{traffic.Download, traffic.Upload} {
		rep, err := g.dial().Do(g.ctx, op, traffic.Request{Bytes: transfer})
		if err != nil {
			return "", fmt.Errorf("%v: %w", rep, err)
		}
		texts = append(texts, fmt.Sprintf("%.1f Mbit/s", rep.Rate()/1e6))
	}
	if err := g.ask(&after, "status"); err != nil {
		return "", err
	}
	if b, a := before.Connections, after.Connections; a.Convert-b.Convert != 2 || a.TCPFallback != 0 {
		return "", fmt.Errorf("the agent counted %+v, then %+v", b, a)
	}
	return strings.Join(texts, " down, ") + " up", nil
}

// bonded begins the download that the checks after it try.
func (g *guest) bonded() (string, error) {
	joins := g.world.Gateway.MIB("MPTcpExtMPJoinSynAckRx")
	if err := g.startConverted(); err != nil {
		return "", err
	}
	var brought string
	// A machine without time to spare takes a line for a slow one at first, and tries
	// it after a while.
	err := g.eventually(patience, func() (err error) {
		brought, err = g.carried("fibre", "lte")
		return err
	})
	if err != nil {
		return "", err
	}
	if n := g.world.Gateway.MIB("MPTcpExtMPJoinSynAckRx") - joins; n < 1 {
		return "", errors.New("the kernel counted no join")
	}
	return brought, nil
}

// startConverted begins a download that the agent has taken, which it does not
// do while it fails open, as in converted.
func (g *guest) startConverted() (err error) {
	for range 3 {
		if err = g.startDownload(); err != nil {
			return err
		}
		var cs report.Connections
		err = g.eventually(patience/3, func() error {
			err := g.ask(&cs, "connections")
			if err == nil && len(cs.Connections) != 1 {
				err = fmt.Errorf("the agent has connections %+v", cs.Connections)
			}
			return err
		})
		if err == nil {
			return nil
		}
		if err := g.endDownload(); err != nil {
			return err
		}
	}
	return err
}

func (g *guest) failover() (string, error) {
	if err := g.world.WAN("fibre").SetDown(); err != nil {
		return "", err
	}
	began, at := time.Now(), g.received()
	// More than both ends had in hand when it happened.
	err := g.eventually(patience, func() error {
		if n := g.received() - at; n < transfer {
			return fmt.Errorf("%d bytes have come since", n)
		}
		return nil
	})
	return fmt.Sprintf("%d bytes in %v", transfer, time.Since(began).Round(time.Millisecond)), err
}

func (g *guest) status() (string, error) {
	var s report.Status
	err := g.eventually(patience, func() error {
		if err := g.ask(&s, "status"); err != nil {
			return err
		}
		if s.State != report.StateDegraded || len(s.WANs) != 2 || s.WANs[0].State != "down" || s.WANs[1].State != "up" {
			return fmt.Errorf("status %+v", s)
		}
		_, err := g.carried("lte")
		return err
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("state %s: %s %s, %s %s", s.State, s.WANs[0].Name, s.WANs[0].State, s.WANs[1].Name, s.WANs[1].State), nil
}

func (g *guest) returns() (string, error) {
	began := time.Now()
	if err := g.world.WAN("fibre").SetUp(); err != nil {
		return "", err
	}
	err := g.eventually(patience, func() error {
		_, err := g.carried("fibre", "lte")
		return err
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("after %v", time.Since(began).Round(time.Millisecond)), g.endDownload()
}

func (g *guest) stop() (string, error) {
	if err := g.agent.stop(); err != nil {
		return "", err
	}
	after, err := g.kernel()
	if err == nil && after != g.before {
		err = fmt.Errorf("before: %s\nafter:  %s", g.before, after)
	}
	return "", errors.Join(err, g.converter.stop())
}

// dial connects from the LAN host to the server with plain TCP.
func (g *guest) dial() traffic.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		d := net.Dialer{Timeout: 10 * time.Second}
		d.SetMultipathTCP(false)
		return g.world.Host().Dial(ctx, d, "tcp", netip.AddrPortFrom(lab.Server4, serverPort).String())
	}
}
