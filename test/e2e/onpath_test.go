// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// sixOnly is a house whose second line has only IPv6, and no way to IPv4.
func sixOnly() lab.Options {
	o := lines()
	o.Accesses[1].V4 = lab.None
	return o
}

// bothFamilies has the converter be reached by either.
var bothFamilies = strings.Replace(rig.DefaultUCI, "list address '192.0.2.10'", "list address '192.0.2.10'\n\tlist address '2001:db8:10::10'", 1)

// explainAt asks about any port of the server.
func explainAt(t *testing.T, r *rig.Rig, port uint16) (e report.Explanation) {
	t.Helper()
	out, err := r.Braid("explain", "-json", netip.AddrPortFrom(lab.Server4, port).String())
	must(t, err)
	must(t, json.Unmarshal(out, &e))
	return e
}

func is(b *bool) string {
	switch {
	case b == nil:
		return "unknown"
	case *b:
		return "yes"
	}
	return "no"
}

// A server to which a line has no way of its own is tried straight, and the
// subflows that come tell: the server announces an address that the line
// reaches, as somebody on the path might.
func TestTriedStraight(t *testing.T) {
	r := start(t, rig.Options{Lab: sixOnly(), UCI: bothFamilies})
	serveMPTCP(t, r)
	// The next connection to an address leaves as the one that is still open.
	download := func(port uint16) {
		transfer(t, fromHost(r, lab.Server4, port), traffic.Download, 16e6)
		eventually(t, 2*time.Second, func() error {
			if cs := connections(t, r); len(cs) > 0 {
				return fmt.Errorf("open: %+v", cs)
			}
			return nil
		})
	}
	leaves := func() report.Totals { return counted(t, r, func() { download(speaker) }) }
	if c := leaves(); c.Convert != 1 {
		t.Errorf("nothing is known of the server, and it was carried as %+v", c)
	}
	if c := leaves(); c.Convert != 1 {
		t.Errorf("it was risked at once: %+v", c)
	}
	const between = 61 * time.Second // two trials
	time.Sleep(between)
	if c := leaves(); c.Direct != 1 {
		t.Errorf("it speaks MPTCP, and was not tried straight: %+v", c)
	}
	if e := explainAt(t, r, speaker); is(e.Seen.Lends) != "no" || e.Path != "convert" || !strings.Contains(e.Reason, "lte cannot reach it") {
		t.Errorf("nobody lends it an address: %+v", e)
	}
	if c := leaves(); c.Convert != 1 {
		t.Errorf("straight it lost a line, and was carried so again: %+v", c)
	}

	// Another server, later, of which the agent knows as much.
	const other = speaker + 1
	_, err := r.Serve(r.Server, true, other)
	must(t, err)
	sh(t, r.Server, "ip mptcp endpoint add 2001:db8:80::80 dev eth0 id 7 signal")
	time.Sleep(between)
	joined := r.Gateway.MIB("MPTcpExtMPJoinSynTx")
	for range 2 {
		download(other)
	}
	if n := r.Gateway.MIB("MPTcpExtMPJoinSynTx") - joined; n < 1 {
		t.Errorf("%d joins", n)
	}
	e := explainAt(t, r, other)
	if is(e.Seen.Lends) != "yes" || e.Seen.Lent != lab.Server6.String() || e.Path != "direct" {
		t.Errorf("seen %+v, path %s: %s", e.Seen, e.Path, e.Reason)
	}
	want := []report.ExpectedSubflow{
		{WAN: "fibre", Family: "ipv4", Remote: fmt.Sprintf("%v:%d", lab.Server4, other), Peer: "server"},
		{WAN: "lte", Family: "ipv6", Remote: lab.Server6.String(), Peer: "lent"},
	}
	if !slices.Equal(e.Subflows, want) {
		t.Errorf("expected %+v", e.Subflows)
	}
	before := r.Link("lte").BA().Counters().Bytes
	if c := counted(t, r, func() { download(other) }); c.Direct != 1 {
		t.Errorf("carried as %+v", c)
	}
	if n := r.Link("lte").BA().Counters().Bytes - before; n < 1e6 {
		t.Errorf("%d bytes over lte", n)
	}
}

// A converter that stands on the path is asked nothing, and is not missed.
func TestOnPathAsksNobody(t *testing.T) {
	uci := rig.DefaultUCI[:strings.Index(rig.DefaultUCI, "config converter")] + `
config converter 'isp'
	option mode 'onpath'
	option wan 'lte'
`
	r := start(t, rig.Options{Lab: lines(), UCI: uci, Idle: true})
	serveMPTCP(t, r)
	nft(t, r.Converter, "table inet spy { chain input { type filter hook input priority 0; tcp dport 5124 counter; udp dport 5124 counter; }; }")
	must(t, r.StartAgent())
	s := status(t, r)
	if s.State != report.StateOK || len(s.Converters) != 1 || s.Converters[0].State != "unknown" || s.Converters[0].WAN != "lte" {
		t.Errorf("state %s, converters %+v", s.State, s.Converters)
	}
	e := explainAt(t, r, speaker)
	if e.Path != "direct" || !strings.Contains(e.Reason, "isp stands on the path of lte") || len(e.Subflows) != 2 || e.Subflows[0].Peer == "converter" {
		t.Errorf("%+v", e)
	}
	// The first subflow goes by its WAN, although the other one is preferred.
	var first string
	stop := background(t, fromHost(r, lab.Server4, speaker))
	eventually(t, 5*time.Second, func() error {
		cs := connections(t, r)
		if len(cs) != 1 || len(cs[0].Subflows) != 2 || cs[0].Path != "direct" {
			return fmt.Errorf("connections %+v", cs)
		}
		first = cs[0].Subflows[0].WAN
		return nil
	})
	eventually(t, 5*time.Second, func() error {
		if e := explainAt(t, r, speaker); is(e.Seen.OnPath) != "yes" || is(e.Seen.MPTCP) != "yes" || is(e.Seen.Joins) != "yes" {
			return fmt.Errorf("seen %+v", e.Seen)
		}
		return nil
	})
	stop()
	if first != "lte" {
		t.Errorf("it began on %s", first)
	}
	// A server without MPTCP, where nobody converts it.
	c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) })
	if c.Direct != 1 || c.TCPFallback != 1 {
		t.Errorf("a plain server was carried as %+v", c)
	}
	if e := explainAt(t, r, rig.Port); is(e.Seen.OnPath) != "no" || is(e.Seen.MPTCP) != "no" {
		t.Errorf("a plain server: seen %+v", e.Seen)
	}
	if out := sh(t, r.Converter, "nft list table inet spy"); strings.Count(out, "packets 0 ") != 2 {
		t.Errorf("somebody was asked:\n%s", out)
	}
	if s := status(t, r); s.State != report.StateOK || s.Converters[0].State != "unknown" {
		t.Errorf("state %s, converters %+v", s.State, s.Converters)
	}
}

// The question that braid comes from, whole: a house whose second line has only
// IPv6, a server with only IPv4, and a converter that nobody addresses. What
// speaks MPTCP gets a lent address, what does not is converted on its way; either
// has both lines, and the gateway knows who it was.
func TestOnPathHouse(t *testing.T) {
	house := rig.DefaultUCI[:strings.Index(rig.DefaultUCI, "config converter")] + `
config converter 'isp'
	option mode 'onpath'
	option wan 'fibre'
`
	o := sixOnly()
	o.Accesses[0].V6 = false
	r := start(t, rig.Options{Lab: o, UCI: house, Idle: true})
	serveMPTCP(t, r)
	sh(t, r.Core, "ip -6 route add 2001:db8:64::/96 via fd00:255::2 dev fibre")
	must(t, (&rig.Street{Rig: r, Client: r.Gateway, Box: r.WAN("fibre").Router}).Start(rig.OnPath))
	must(t, r.StartAgent())
	lent := netip.MustParsePrefix("2001:db8:64::/96")
	for _, server := range []struct {
		name string
		port uint16
		peer string
	}{{"MPTCP", speaker, "server or mcp"}, {"TCP", rig.Port, "server or mcp"}} {
		t.Run(server.name, func(t *testing.T) {
			for range 2 {
				fibre, lte := arrived(r, "fibre"), arrived(r, "lte")
				c := counted(t, r, func() { transfer(t, fromHost(r, lab.Server4, server.port), traffic.Download, 24e6) })
				if c.Direct != 1 || c.TCPFallback != 0 {
					t.Errorf("carried as %+v", c)
				}
				if fibre, lte = arrived(r, "fibre")-fibre, arrived(r, "lte")-lte; fibre < 6e6 || lte < 3e6 {
					t.Errorf("%d bytes over fibre, %d over lte", fibre, lte)
				}
			}
			e := explainAt(t, r, server.port)
			at, err := netip.ParseAddr(e.Seen.Lent)
			if err != nil || !lent.Contains(at) || is(e.Seen.OnPath) != "yes" || is(e.Seen.Lends) != "yes" {
				t.Errorf("seen %+v", e.Seen)
			}
			if len(e.Subflows) != 2 || e.Subflows[0].WAN != "fibre" || e.Subflows[0].Peer != server.peer ||
				e.Subflows[1].WAN != "lte" || e.Subflows[1].Peer != "lent" || e.Subflows[1].Remote != e.Seen.Lent {
				t.Errorf("expected %+v", e.Subflows)
			}
		})
	}
	if s := status(t, r); s.State != report.StateOK || s.Converters[0].State != "up" {
		t.Errorf("state %s, converters %+v", s.State, s.Converters)
	}
}
