// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
)

// The converter's addresses are entered IPv6 first, and one line has IPv4 alone: both lines carry.
func TestHouseWithIPv6First(t *testing.T) {
	lte := lab.LTE(fast, fast)
	lte.V6 = false
	uci := strings.Replace(bondUCI, "\tlist address '192.0.2.10'\n\tlist address '2001:db8:10::10'\n",
		"\tlist address '2001:db8:10::10'\n\tlist address '192.0.2.10'\n", 1)
	uci = strings.NewReplacer("list interface 'wan'", "option device 'fibre'", "list interface 'wwan'", "option device 'lte'").Replace(uci)
	h := newHouse(t, lab.Options{Accesses: []lab.Access{lab.Fibre(fast, fast), lte}}, uci)
	h.moveIn(t, "fibre", "lte")
	for _, server := range []netip.Addr{lab.Server4, lab.Server6} {
		got := h.downloads(t, server, 16e6, "fibre", "lte")
		if got["fibre"] < 4e6 || got["lte"] < 4e6 {
			t.Errorf("of 16 MB from %v have come %v", server, got)
		}
	}
}

// With all WANs unplugged no converter is up, nor is anything else.
func TestHouseUnplugged(t *testing.T) {
	h := newHouse(t, lab.Options{}, homeUCI("fibre; device fibre; role primary", "lte; device lte; role bond"))
	h.moveIn(t, "fibre", "lte")
	converter := func(is bool) {
		t.Helper()
		eventually(t, 10*time.Second, func() error {
			s := status(t, h.Rig)
			for _, c := range s.Converters {
				if (c.State == "up") != is {
					return fmt.Errorf("the converter is %+v", c)
				}
			}
			if (s.State == report.StateDown) == is {
				return fmt.Errorf("the state is %s", s.State)
			}
			return nil
		})
	}
	converter(true)
	for _, w := range h.WANs {
		must(t, w.SetDown())
	}
	converter(false)
	must(t, h.WAN("lte").SetUp())
	converter(true)
}
