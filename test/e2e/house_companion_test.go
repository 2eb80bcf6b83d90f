// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/agent/config"
	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// What cannot live in the middle is forwarded, as by any router: a connection
// whose ends sign its segments, one that counts the routers on its way, a
// tunnel's control beside the tunnel, and one that connection tracking has a
// helper for.
func TestHouseWithWhatIsForwarded(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			uci := backend(t, b, rig.DefaultUCI)
			r := start(t, rig.Options{Idle: true})
			must(t, r.WriteUCI(uci))
			must(t, r.StartMCP("-client", "0.0.0.0/0"))
			sh(t, r.Gateway, helps[b])
			must(t, r.StartAgent())
			t.Run("signed", func(t *testing.T) { signed(t, r) })
			t.Run("privileged", func(t *testing.T) { privileged(t, r) })
			t.Run("trace", func(t *testing.T) { trace(t, r) })
			t.Run("PPTP", func(t *testing.T) { pptp(t, r) })
			t.Run("helper", func(t *testing.T) { helper(t, r) })
		})
	}
}

// helps ask for a helper for FTP, as firewalls do where its module is there.
var helps = map[string]string{
	"nftables": `nft 'table inet fw4 {
		ct helper ftp { type "ftp" protocol tcp; }
		chain helper_lan { tcp dport 21 ct helper set "ftp"; }
		chain prerouting { type filter hook prerouting priority filter; iifname "lan0" jump helper_lan; }
	}'`,
	"iptables-legacy": "iptables-legacy -w -t raw -A PREROUTING -i lan0 -p tcp --dport 21 -j CT --helper ftp",
	"iptables-nft":    "iptables-nft -w -t raw -A PREROUTING -i lan0 -p tcp --dport 21 -j CT --helper ftp",
}

// option sets an option of a socket before it is used.
func option(set func(fd int) error) func(_, _ string, rc syscall.RawConn) error {
	return func(_, _ string, rc syscall.RawConn) error {
		var failed error
		err := rc.Control(func(fd uintptr) { failed = set(int(fd)) })
		return errors.Join(err, failed)
	}
}

// signed is a connection of BGP's kind. The signature covers the addresses: only
// where nobody translates them, as IPv6 over the fixed line, can it be at all.
func signed(t *testing.T, r *rig.Rig) {
	const port = 179
	key := func(peer netip.Addr) func(fd int) error {
		return func(fd int) error {
			sig := unix.TCPMD5Sig{Keylen: 6, Addr: unix.SockaddrStorage{Family: unix.AF_INET6}}
			copy(sig.Addr.Data[6:], peer.AsSlice()) // behind the port and the label of the flow
			copy(sig.Key[:], "secret")
			return unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig)
		}
	}
	l, err := r.Server.Listen(t.Context(), net.ListenConfig{Control: option(key(lab.Host6))}, "tcp6", fmt.Sprintf(":%d", port))
	must(t, err)
	s := traffic.Serve(l)
	defer s.Close()
	notTaken(t, r, func() {
		transfer(t, func(ctx context.Context) (net.Conn, error) {
			d := net.Dialer{Timeout: 5 * time.Second, Control: option(key(lab.Server6))}
			return r.Host().Dial(ctx, d, "tcp", netip.AddrPortFrom(lab.Server6, port).String())
		}, traffic.Echo, 1e5)
	})
}

// privileged is a client of NFS: the server sees that its port is the
// administrator's.
func privileged(t *testing.T, r *rig.Rig) {
	notTaken(t, r, func() {
		p := identify(t, func(ctx context.Context) (net.Conn, error) {
			d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: lab.Host4.AsSlice(), Port: 1000}}
			return r.Host().Dial(ctx, d, "tcp", netip.AddrPortFrom(lab.Server4, rig.Port).String())
		})
		if p.Remote.Port() >= 1024 {
			t.Errorf("the server sees %v", p.Remote)
		}
	})
}

// trace is what a trace by TCP sends at last: it reaches the server, and the
// server answers, not the gateway.
func trace(t *testing.T, r *rig.Rig) {
	for _, to := range []netip.Addr{lab.Server4, lab.Server6} {
		hops := option(func(fd int) error {
			return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, 30), ignore6(to, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 30)))
		})
		notTaken(t, r, func() {
			transfer(t, func(ctx context.Context) (net.Conn, error) {
				return r.Host().Dial(ctx, net.Dialer{Timeout: 5 * time.Second, Control: hops}, "tcp", netip.AddrPortFrom(to, rig.Port).String())
			}, traffic.Echo, 1e5)
		})
	}
}

// ignore6 drops the error of an option of IPv6 on a socket of IPv4.
func ignore6(to netip.Addr, err error) error {
	if to.Is4() {
		return nil
	}
	return err
}

// pptp has its tunnel beside its control: both leave by one line.
func pptp(t *testing.T, r *rig.Rig) {
	const port = 1723
	_, err := r.Serve(r.Server, false, port)
	must(t, err)
	mirror(t, r.Server, lab.Server4)
	notTaken(t, r, func() {
		control := identify(t, fromNode(r, r.Host(), lab.Server4, port))
		wan, err := ask(r, udp(t, r.Host(), lab.Server4)) // as the tunnel's GRE: by the two hosts' addresses
		if must(t, err); over(r, control.Remote.Addr()) != wan {
			t.Errorf("the control comes from %v, the tunnel by %s", control.Remote, wan)
		}
	})
	if e := explained(t, r, netip.AddrPortFrom(lab.Server4, port)); e.Path != config.PathPass || len(e.Subflows) == 0 {
		t.Errorf("it is explained: %+v", e)
	}
}

// helper is FTP in which connection tracking reads along: what it reads of, it
// lets in.
func helper(t *testing.T, r *rig.Rig) {
	const port = 21
	_, err := r.Serve(r.Server, false, port)
	must(t, err)
	dest := netip.AddrPortFrom(lab.Server4, port)
	if e := explained(t, r, dest); e.Path != config.PathPass {
		t.Errorf("it is explained: %+v", e)
	}
	notTaken(t, r, func() {
		p := identify(t, fromNode(r, r.Host(), lab.Server4, port))
		if !slices.Contains([]string{"fibre", "lte"}, over(r, p.Remote.Addr())) {
			t.Errorf("the server sees %v", p.Remote)
		}
	})
}

func explained(t *testing.T, r *rig.Rig, dest netip.AddrPort) (e report.Explanation) {
	t.Helper()
	out, err := r.Braid("explain", dest.String(), "-json")
	must(t, err)
	must(t, json.Unmarshal(out, &e))
	return e
}
