// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"braid/test/link"
)

// tunnelPort is that of both ends of a tunnel over UDP.
const tunnelPort = 51820

// A Tunnel leads from the gateway to a Provider, in packets that the gateway sends over its access
// networks as it does others of its own.
type Tunnel struct {
	// Name is that of the gateway's device, a TUN one as WireGuard's is, and of the provider's
	// namespace.
	Name string
	// Over is in what packets travel: "udp4" or "udp6", as WireGuard's do; "ip6:4", IPv4 in IPv6
	// as DS-Lite's (RFC 6333); "ip4:41", IPv6 in IPv4 (RFC 4213).
	Over string
	// Inside are addresses of the gateway's device. The provider routes their networks there.
	Inside []netip.Prefix
	// Mark is that of the gateway's socket.
	Mark int
	// RoutesLAN has the LAN's IPv6 prefix routed through it.
	RoutesLAN bool
}

// A Provider is the far end of a Tunnel, such as a VPN provider, a carrier's AFTR or a broker of
// IPv6 tunnels. What comes from private addresses of its tunnel leaves from its own.
type Provider struct {
	*Node
	Tunnel           Tunnel
	Public4, Public6 netip.Addr
}

// AddTunnel builds a provider, and the tunnel to it. No route leads there yet.
func (w *World) AddTunnel(t Tunnel) (*Provider, error) {
	i := byte(len(w.Providers))
	p := &Provider{
		Tunnel:  t,
		Public4: netip.AddrFrom4([4]byte{198, 18, 200 + i, 10}),
		Public6: netip.MustParseAddr(fmt.Sprintf("2001:db8:e:%x::10", i)),
	}
	var err error
	if p.Node, err = w.node(t.Name); err != nil {
		return nil, err
	}
	if err := errors.Join(router(p.Node), w.buildStub(p.Node, t.Name, p.Public4, p.Public6, 0)); err != nil {
		return nil, err
	}
	if err := w.dig(p); err != nil {
		return nil, fmt.Errorf("digging tunnel %s: %w", t.Name, err)
	}
	w.Providers = append(w.Providers, p)
	nets := t.Inside
	if t.RoutesLAN {
		nets = append(nets, LANPrefix6)
		err = w.Core.routes(p.Public6, t.Name, LANPrefix6)
	}
	return p, errors.Join(err,
		w.Gateway.up(t.Name, t.Inside...),
		p.up("gw"),
		p.inside(nets),
		p.nft(`table inet nat {
			chain postrouting {
				type nat hook postrouting priority srcnat
				oifname "eth0" ip saddr { 10.0.0.0/8, 100.64.0.0/10, 192.0.0.0/24, 192.168.0.0/16 } masquerade
				oifname "eth0" ip6 saddr fc00::/7 masquerade
			}
		}`))
}

// inside routes the networks of the tunnel's near end.
func (p *Provider) inside(nets []netip.Prefix) error {
	var errs []error
	for _, n := range nets {
		_, err := p.Run(fmt.Sprintf("ip route add %v dev gw", n.Masked()))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// dig opens both mouths of the tunnel. The provider's answers the address from which it was last
// written to.
func (w *World) dig(p *Provider) error {
	far, err := w.mouth(p.Node, "gw", p.Tunnel.Over, net.ListenConfig{})
	if err != nil {
		return err
	}
	near, err := w.mouth(w.Gateway, p.Tunnel.Name, p.Tunnel.Over, net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var failed error
		err := rc.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, p.Tunnel.Mark) })
		return errors.Join(err, failed)
	}})
	if err != nil {
		return err
	}
	var at net.Addr
	switch p.Tunnel.Over {
	case "udp4", "ip4:41":
		at = endOf(p.Tunnel.Over, p.Public4)
	default:
		at = endOf(p.Tunnel.Over, p.Public6)
	}
	near.peer.Store(&at)
	for _, m := range []*mouth{near, far} {
		go m.swallow()
		go m.spit()
	}
	return nil
}

func endOf(over string, a netip.Addr) net.Addr {
	if strings.HasPrefix(over, "udp") {
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, tunnelPort))
	}
	return &net.IPAddr{IP: a.AsSlice()}
}

// A mouth is one end of a tunnel: a device, and the socket through which its packets travel.
type mouth struct {
	device *os.File
	conn   net.PacketConn
	peer   atomic.Pointer[net.Addr] // who last wrote
}

func (w *World) mouth(n *Node, device, over string, lc net.ListenConfig) (*mouth, error) {
	end, err := openIn(n, device)
	if err != nil {
		return nil, err
	}
	m := &mouth{device: end.File()}
	w.services = append(w.services, m.device)
	local := ""
	if strings.HasPrefix(over, "udp") {
		local = fmt.Sprintf(":%d", tunnelPort)
	}
	if m.conn, err = n.ListenPacket(context.Background(), lc, over, local); err != nil {
		return nil, err
	}
	w.services = append(w.services, m.conn)
	return m, nil
}

// swallow sends on what the device is given. What has no way to the peer is lost, as everywhere.
func (m *mouth) swallow() {
	var buf [link.MTU]byte
	for {
		n, err := m.device.Read(buf[:])
		if err != nil {
			return
		}
		if to := m.peer.Load(); to != nil {
			m.conn.WriteTo(buf[:n], *to)
		}
	}
}

// spit has the device receive what the peer sent.
func (m *mouth) spit() {
	var buf [link.MTU]byte
	for {
		n, from, err := m.conn.ReadFrom(buf[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			m.peer.Store(&from)
			m.device.Write(buf[:n])
		}
	}
}
