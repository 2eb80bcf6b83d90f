// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// ownLine gives a host a line of its own, to which its kernel opens subflows.
func ownLine(t *testing.T, r *rig.Rig, host *lab.Node) {
	t.Helper()
	sh(t, r.Core, "ip link add phone type veth peer name own netns "+host.Name+" && ip addr add 198.18.200.1/24 dev phone && ip link set phone up")
	sh(t, host, "ip addr add 198.18.200.2/24 dev own && ip link set own up && "+
		"ip rule add from 198.18.200.2 lookup 100 && ip route add default via 198.18.200.1 table 100 && "+
		"ip route add default via 198.18.200.1 metric 1000 && "+
		"ip mptcp limits set subflows 4 && ip mptcp endpoint add 198.18.200.2 dev own subflow")
}

// A phone on the LAN that speaks MPTCP and has a cellular line of its own: its
// connections and joins go through untouched, and live on when it leaves the
// house.
func TestPhone(t *testing.T) {
	r := start(t, rig.Options{Lab: lines()})
	serveMPTCP(t, r)
	phone := r.Host()
	ownLine(t, r, phone)
	before := r.Server.MIB("MPTcpExtMPJoinAckRx")
	total := status(t, r).Connections.Total
	leave := time.AfterFunc(2*time.Second, func() { phone.Run("ip link set eth0 down") })
	defer leave.Stop()
	dial := traffic.Dial(func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		d.SetMultipathTCP(true)
		return phone.Dial(ctx, d, "tcp", netip.AddrPortFrom(lab.Server4, speaker).String())
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	rep, err := dial.Do(ctx, traffic.Download, traffic.Request{Bytes: traffic.Endless, For: 6 * time.Second, Interval: time.Second})
	must(t, err)
	if got := r.Server.MIB("MPTcpExtMPJoinAckRx") - before; got < 1 {
		t.Errorf("%d joins at the server", got)
	}
	if last := rep.Intervals[len(rep.Intervals)-2]; last.Bytes == 0 {
		t.Errorf("nothing arrived after it left: %+v", rep.Intervals)
	}
	if got := status(t, r).Connections.Total; got != total {
		t.Errorf("braid took %d of its connections", got-total)
	}
}

// With lan_mptcp convert its connections are carried like any other.
func TestPhoneConverted(t *testing.T) {
	uci := strings.Replace(rig.DefaultUCI, "list lan 'lan0'", "list lan 'lan0'\n\toption lan_mptcp 'convert'", 1)
	r := start(t, rig.Options{Lab: lines(), UCI: uci})
	total := status(t, r).Connections.Total
	transfer(t, r.From(r.Host(), lab.Server4, true), traffic.Download, 1e6)
	if got := status(t, r).Connections.Total - total; got != 1 {
		t.Errorf("braid took %d of 1 connection", got)
	}
}
