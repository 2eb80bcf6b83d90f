// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcppm

import (
	"fmt"

	"braid/agent/kernel/sysctl"
	"braid/transport/mptcp"
)

const limitsFormat = "subflows %d add_addr_accepted %d"

var limitsKind = sysctl.Kind{Name: "mptcp", Read: readLimits, Write: writeLimits}

func applyLimits(k *sysctl.Keeper, want *mptcp.Limits) error {
	if want == nil {
		return k.Keep(limitsKind, nil)
	}
	return k.Keep(limitsKind, []sysctl.Setting{{Key: "limits", Value: format(*want)}})
}

func format(l mptcp.Limits) string { return fmt.Sprintf(limitsFormat, l.Subflows, l.AddAddrsAccepted) }

func readLimits(string) (string, error) {
	l, err := mptcp.GetLimits()
	return format(l), err
}

func writeLimits(_, value string) error {
	var l mptcp.Limits
	if _, err := fmt.Sscanf(value, limitsFormat, &l.Subflows, &l.AddAddrsAccepted); err != nil {
		return fmt.Errorf("reading saved MPTCP limits %q: %w", value, err)
	}
	return mptcp.SetLimits(l)
}
