// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"braid/test/lab"
	"braid/test/traffic"
	"braid/transport/mptcp"
)

// Street is a world without agent and without anything that a converter would be
// addressed by: the client is the gateway itself, and the converter the router
// of its fixed line.
//
//	         .-- fibre (IPv4, 198.51.100.2) ---- box ----------.
//	client --+                                    ^            +-- server (IPv4)
//	         '-- lte (IPv6 only) ---- carrier -- core ---------'
//
// Port 8080 of the server speaks TCP, 8081 MPTCP.
type Street struct {
	*Rig
	Client, Box *lab.Node
}

// MPTCPPort is where the server of a Street speaks MPTCP.
const MPTCPPort = Port + 1

// Configurations of a converter on a Street's path.
const (
	OnPathHead = `
listen = ["127.0.0.1:5124"]
metrics = ""
drain = 1
log_level = "debug"
`
	OnPath = OnPathHead + `
[on_path]
interfaces = ["gw"]
clients = ["198.51.100.0/24"]
lend = "2001:db8:64::/96"
lend_to = "all"
`
)

// NewStreet builds a Street whose lines are those of a world. Its converter is
// not started.
func NewStreet(ctx context.Context, bin string, fixed, cellular lab.Access, veth bool) (_ *Street, err error) {
	fixed.Name, fixed.Kind, fixed.V4 = "fibre", lab.Fixed, lab.Public
	cellular.Name, cellular.Kind, cellular.V4, cellular.V6 = "lte", lab.Cellular, lab.None, true
	r, err := New(ctx, Options{Idle: true, Bin: bin, Lab: lab.Options{Accesses: []lab.Access{fixed, cellular}, Veth: veth}})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	s := &Street{r, r.Gateway, r.WAN("fibre").Router}
	if _, err := r.Serve(r.Server, true, MPTCPPort); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		n      *lab.Node
		script string
	}{
		{r.Core, "ip -6 route add 2001:db8:64::/96 via fd00:255::2 dev fibre"},
		{r.Server, "ip mptcp limits set subflows 8"},
		{s.Client, `ip mptcp limits set subflows 8 add_addr_accepted 8
			ip mptcp endpoint add 2001:db8:c::2 dev lte id 2 subflow fullmesh`},
	} {
		if _, err := c.n.Run(c.script); err != nil {
			return nil, err
		}
	}
	for _, n := range []*lab.Node{s.Client, s.Box, r.Server} {
		if err := n.Sysctl("net.mptcp.blackhole_timeout", "0"); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Start starts the converter, and waits until it stands on the path.
func (s *Street) Start(config string) error { return s.StartBy(config) }

// StartBy starts it by another program, which is given its command line.
func (s *Street) StartBy(config string, by ...string) (err error) {
	if err := s.WriteConfig(config); err != nil {
		return err
	}
	command := append(by, filepath.Join(s.bin, "braid-mcp"), "serve", "-config", s.config(), "-socket", s.control())
	s.MCP, err = s.Launch(s.Box, command[0], command[1:]...)
	if err != nil {
		return err
	}
	return s.Await(s.MCP, func() error {
		_, err := s.Box.Run("nft list set inet braid_mcp alive | grep -q expires")
		return err
	})
}

// WriteConfig replaces the converter's configuration.
func (s *Street) WriteConfig(config string) error {
	return os.WriteFile(s.config(), []byte(config), 0o644)
}

func (s *Street) config() string  { return filepath.Join(s.dir, "onpath.toml") }
func (s *Street) control() string { return filepath.Join(s.dir, "onpath.sock") }

// ConverterStatus is what the converter says of itself, as JSON.
func (s *Street) ConverterStatus() ([]byte, error) {
	out, err := exec.CommandContext(s.ctx, filepath.Join(s.bin, "braid-mcp"), "status", "-json", "-socket", s.control()).Output()
	if err != nil {
		return nil, fmt.Errorf("asking the converter: %w", err)
	}
	return out, nil
}

// Dial connects from the client by MPTCP, as programs do whose connections may
// have subflows of both families.
func (s *Street) Dial(port uint16) traffic.Dial {
	return func(ctx context.Context) (c net.Conn, err error) {
		err = s.Client.Do(func() error {
			mc, err := new(mptcp.Dialer).Dial(ctx, netip.Addr{}, netip.AddrPortFrom(lab.Server4, port), nil)
			if err == nil {
				c = mc
			}
			return err
		})
		return c, err
	}
}
