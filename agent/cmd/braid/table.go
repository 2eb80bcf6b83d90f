// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"braid/agent/report"
)

func showStatus(s *screen, st *report.Status) {
	s.WriteString("braid " + clip(st.Version, 40) + ": ")
	s.paint(stateColour(string(st.State)), string(st.State))
	s.line(", up for %s", duration(st.Uptime))
	for _, p := range st.Problems {
		where := p.Section
		if p.Option != "" {
			where += "." + p.Option
		}
		for text := range strings.SplitSeq(p.Message, "\n") {
			s.text(yellow, fmt.Sprintf("problem: %s: %s", where, text))
		}
	}
	s.text(plain, fmt.Sprintf("kernel %s: MPTCP %s, TCP Fast Open %s, %s; firewall: %s", st.Kernel.Release,
		yes(st.Kernel.MPTCP), yes(st.Kernel.TFO), cmp.Or(st.Kernel.Congestion, "congestion control not known"), cmp.Or(st.Firewall, "nothing is intercepted")))
	s.text(plain, fmt.Sprintf("connections: %d open, %d in all: %d converted, %d direct, %d without MPTCP; %d of hosts extended",
		st.Connections.Open, st.Connections.Total, st.Connections.Convert, st.Connections.Direct, st.Connections.TCPFallback, st.Connections.Extended))
	s.line("carried: %s received, %s sent", amount(st.Bytes.RX), amount(st.Bytes.TX))
	if len(st.Converters) == 0 {
		s.text(yellow, "no converter: connections to servers that do not speak MPTCP use one line each")
	} else {
		s.line("")
		var rows [][]string
		for _, c := range st.Converters {
			at := net.JoinHostPort(c.Address, strconv.Itoa(int(c.Port)))
			if c.WAN != "" {
				at = "on the path of " + c.WAN
			}
			rows = append(rows, []string{c.Name, at, c.State, milliseconds(c.RTT), duration(c.Since)})
		}
		s.table([]column{{head: "CONVERTER"}, {head: "ADDRESS"}, {head: "STATE", colour: stateColour},
			{head: "RTT", right: true}, {head: "SINCE", right: true}}, rows)
		for i, c := range st.Converters {
			if i == 0 || st.Converters[i-1].Name != c.Name {
				showLacks(s, c)
			}
		}
	}
	if len(st.WANs) > 0 {
		s.line("")
		showWANs(s, st.WANs)
	}
}

// showLacks tells of the address families in which a converter reaches nobody.
func showLacks(s *screen, c report.Converter) {
	for _, f := range []struct {
		name    string
		reaches *bool
	}{{"IPv4", c.IPv4}, {"IPv6", c.IPv6}} {
		if f.reaches != nil && !*f.reaches {
			s.text(yellow, fmt.Sprintf("%s: reaches no %s servers", c.Name, f.name))
		}
	}
}

func showWANs(s *screen, wans []report.WAN) {
	showRates(s, wans)
	s.line("")
	var rows [][]string
	for _, x := range wans {
		v6 := "no"
		if x.IPv6 {
			v6 = "yes"
		}
		rows = append(rows, []string{x.Name, cmp.Or(x.Device, "-"), string(x.Kind), x.IPv4, v6,
			strconv.Itoa(x.Subflows), amount(x.RXBytes), amount(x.TXBytes), duration(x.Since)})
	}
	s.table([]column{{head: "WAN"}, {head: "DEVICE"}, {head: "KIND"}, {head: "IPV4"}, {head: "IPV6"},
		{head: "SUBFLOWS", right: true}, {head: "RECEIVED", right: true}, {head: "SENT", right: true}, {head: "SINCE", right: true}}, rows)
	for _, x := range wans {
		showWANLines(s, x)
	}
}

// showRates is the part of the WANs' table that changes all the time.
func showRates(s *screen, wans []report.WAN) {
	var rows [][]string
	for _, x := range wans {
		rows = append(rows, []string{x.Name, x.State, string(x.EffectiveRole), milliseconds(x.RTT), percent(x.Loss), rate(x.RXRate), rate(x.TXRate)})
	}
	s.table([]column{{head: "WAN"}, {head: "STATE", colour: stateColour}, {head: "ROLE"}, {head: "RTT", right: true},
		{head: "LOSS", right: true}, {head: "RECEIVING", right: true}, {head: "SENDING", right: true}}, rows)
}

// showWANLines tells what only some WANs have.
func showWANLines(s *screen, x report.WAN) {
	say := func(text string) { s.text(plain, x.Name+": "+text) }
	if x.Role != x.EffectiveRole {
		say(fmt.Sprintf("%s by configuration", x.Role))
	}
	if x.Reason != "" {
		say(x.Reason)
	}
	if text := cellular(x.Cellular); text != "" {
		say(text)
	} else if x.Kind == "cellular" {
		say("there is no modem that tells of its network")
	}
	if q := x.Quota; q.Limit > 0 {
		text := fmt.Sprintf("%s of %s used", amount(q.Used), amount(q.Limit))
		if q.Resets > 0 {
			text += ", counts anew in " + duration(q.Resets)
		}
		say(text)
	}
}

// cellular is what a modem tells, as far as it knows.
func cellular(c report.Cellular) string {
	var parts []string
	add := func(known bool, text string) {
		if known {
			parts = append(parts, text)
		}
	}
	add(c.Operator != "", c.Operator)
	add(c.Technology != "", c.Technology)
	add(c.Registration != "" && c.Registration != "home" && !c.Roaming, c.Registration)
	add(c.Roaming, "roaming")
	add(c.Signal != 0, fmt.Sprintf("signal %d %%", c.Signal))
	add(c.RSRP != 0, fmt.Sprintf("RSRP %.0f dBm", c.RSRP))
	add(c.SINR != 0, fmt.Sprintf("SINR %.0f dB", c.SINR))
	add(c.Lock != "", "locked: "+c.Lock)
	add(c.Failure != "", c.Failure)
	if len(parts) == 0 && c.Model != "" {
		return c.Model + ", of whose network nothing is known"
	}
	return strings.Join(parts, ", ")
}

func showConnections(s *screen, cs *report.Connections) {
	var rows [][]string
	for _, c := range cs.Connections {
		var wans []string
		for _, f := range c.Subflows {
			wans = append(wans, cmp.Or(f.WAN, f.Local))
		}
		rows = append(rows, []string{c.Src, c.Dst, string(c.Path), duration(c.Age), amount(c.RX), amount(c.TX), strings.Join(wans, "+")})
	}
	s.table([]column{{head: "FROM"}, {head: "TO"}, {head: "PATH"}, {head: "AGE", right: true},
		{head: "RECEIVED", right: true}, {head: "SENT", right: true}, {head: "WANS"}}, rows)
	if n := cs.Total - len(cs.Connections); n > 0 {
		s.line("and %d more", n)
	}
}

func showExplanation(s *screen, dest destination, e *report.Explanation) {
	s.line("%s", net.JoinHostPort(dest.Addr.String(), strconv.Itoa(int(dest.Port))))
	s.text(plain, fmt.Sprintf("%s: %s", e.Path, e.Reason))
	if e.Rule != "" {
		s.line("rule: %s", e.Rule)
	}
	if len(e.Subflows) == 0 {
		return
	}
	s.line("")
	var rows [][]string
	for _, f := range e.Subflows {
		rows = append(rows, []string{f.WAN, f.Family, f.Remote, f.Peer})
	}
	s.table([]column{{head: "SUBFLOW"}, {head: "FAMILY"}, {head: "TO"}, {head: "PEER"}}, rows)
	var seen []string
	for _, fact := range []struct {
		is   *bool
		what string
	}{{e.Seen.MPTCP, "the server speaks MPTCP"}, {e.Seen.Joins, "it takes further subflows"},
		{e.Seen.OnPath, "MPTCP is answered on the path"}, {e.Seen.Lends, "an address is lent"}} {
		if fact.is != nil {
			seen = append(seen, fact.what+": "+yes(*fact.is))
		}
	}
	if len(seen) > 0 {
		s.line("")
		s.text(plain, "seen: "+strings.Join(seen, ", "))
	}
}

// amount writes bytes the way people say them.
func amount(n uint64) string { return scaled(float64(n), "B") }

// rate writes bit/s the same way.
func rate(n int64) string { return scaled(float64(n), "bit/s") }

func scaled(v float64, unit string) string {
	const prefixes = "kMGTPE"
	if v < 1000 {
		return fmt.Sprintf("%.0f %s", v, unit)
	}
	v /= 1000
	i := 0
	for ; v >= 999.95 && i < len(prefixes)-1; i++ {
		v /= 1000
	}
	return fmt.Sprintf("%.1f %c%s", v, prefixes[i], unit)
}

func milliseconds(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v < 9.95:
		return fmt.Sprintf("%.1f ms", v)
	}
	return fmt.Sprintf("%.0f ms", v)
}

func percent(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }

// duration writes seconds in the largest unit of which there are two.
func duration(seconds int) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", seconds)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
