// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"

	"braid/agent/report"
)

func showStatus(w io.Writer, s *report.Status) {
	fmt.Fprintf(w, "braid %s: %s\n", s.Version, s.State)
	for _, p := range s.Problems {
		where := p.Section
		if p.Option != "" {
			where += "." + p.Option
		}
		fmt.Fprintf(w, "problem: %s: %s\n", where, p.Message)
	}
	for _, c := range s.Converters {
		fmt.Fprintf(w, "converter %s: %s port %d, %s\n", c.Name, c.Address, c.Port, c.State)
	}
	fmt.Fprintf(w, "connections: %d open, %d in all (%d converted, %d direct, %d without MPTCP)\n",
		s.Connections.Open, s.Connections.Total, s.Connections.Convert, s.Connections.Direct, s.Connections.TCPFallback)
	fmt.Fprintf(w, "carried: %s received, %s sent\n\n", amount(s.Bytes.RX), amount(s.Bytes.TX))
	showWANs(w, s.WANs)
}

func showWANs(w io.Writer, wans []report.WAN) {
	fmt.Fprintln(w, "WAN\tDEVICE\tROLE\tSTATE\tIPV4\tIPV6\tRTT\tSUBFLOWS\tRECEIVED\tSENT")
	for _, x := range wans {
		v6 := "no"
		if x.IPv6 {
			v6 = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", x.Name, cmp.Or(x.Device, "-"), x.EffectiveRole, x.State,
			x.IPv4, v6, milliseconds(x.RTT), x.Subflows, amount(x.RXBytes), amount(x.TXBytes))
	}
	for _, x := range wans {
		if x.Reason != "" {
			fmt.Fprintf(w, "%s: %s\n", x.Name, x.Reason)
		}
	}
}

func showConnections(w io.Writer, cs *report.Connections) {
	fmt.Fprintln(w, "FROM\tTO\tPATH\tAGE\tRECEIVED\tSENT\tWANS")
	for _, c := range cs.Connections {
		fmt.Fprintf(w, "%s\t%s\t%s\t%ds\t%s\t%s\t", c.Src, c.Dst, c.Path, c.Age, amount(c.RX), amount(c.TX))
		for i, f := range c.Subflows {
			if i > 0 {
				fmt.Fprint(w, " ")
			}
			fmt.Fprint(w, cmp.Or(f.WAN, f.Local))
		}
		fmt.Fprintln(w)
	}
	if n := cs.Total - len(cs.Connections); n > 0 {
		fmt.Fprintf(w, "and %d more\n", n)
	}
}

func showExplanation(w io.Writer, e *report.Explanation) {
	fmt.Fprintf(w, "%s: %s\n", e.Path, e.Reason)
	if e.Rule != "" {
		fmt.Fprintf(w, "rule: %s\n", e.Rule)
	}
	for _, f := range e.Subflows {
		fmt.Fprintf(w, "subflow\t%s\t%s\t%s\n", f.WAN, f.Family, f.Remote)
	}
}

// amount writes bytes the way people say them.
func amount(n uint64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1000, 0
	for ; v >= 1000 && i < len(units)-1; i++ {
		v /= 1000
	}
	return fmt.Sprintf("%.1f %cB", v, units[i])
}

func milliseconds(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", v)
}
