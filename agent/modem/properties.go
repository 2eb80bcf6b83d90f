// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package modem

import (
	"fmt"
	"math"

	"github.com/godbus/dbus/v5"
)

// properties are those of one interface of an object. What is missing, or of
// another type than ModemManager's documentation says, is the zero value.
type properties map[string]dbus.Variant

func get[T any](p properties, name string) (v T) {
	v, _ = p[name].Value().(T)
	return v
}

// dict is a property that is a dictionary itself.
func (p properties) dict(name string) properties {
	return properties(get[map[string]dbus.Variant](p, name))
}

// number is a finite one of a size that makes sense; ModemManager has the least
// double for what is not known.
func (p properties) number(name string) float64 {
	if v := get[float64](p, name); math.Abs(v) < 1000 {
		return v
	}
	return 0
}

// The values of ModemManager's enumerations that mean something here
// (ModemManager-enums.h of 1.24).
const (
	stateFailed  = -1
	stateLocked  = 2
	stateEnabled = 6

	techLTE  = 1 << 14
	tech5GNR = 1 << 15
	techAny  = 1<<32 - 1
)

// registrations are by MMModem3gppRegistrationState.
var registrations = [...]Registration{Idle, Home, Searching, Denied, Unknown, Roaming, Home, Roaming, Emergency, Home, Roaming, Restricted}

func registration(state uint32) Registration {
	if state >= uint32(len(registrations)) {
		return Unknown
	}
	return registrations[state]
}

// technologies are by MMModemAccessTechnology, the best first.
var technologies = []struct {
	bits uint32
	name string
}{
	{tech5GNR, "5G"}, {techLTE, "LTE"}, {1 << 16, "LTE-M"}, {1 << 17, "NB-IoT"}, {1 << 9, "HSPA+"}, {1<<6 | 1<<7 | 1<<8, "HSPA"},
	{1 << 5, "UMTS"}, {1<<11 | 1<<12 | 1<<13, "EV-DO"}, {1 << 10, "1xRTT"}, {1 << 4, "EDGE"}, {1 << 3, "GPRS"}, {1<<1 | 1<<2, "GSM"},
}

// technology names the best one. LTE and 5G at once is 5G beside an LTE cell
// that leads (non-standalone).
func technology(bits uint32) string {
	switch {
	case bits == techAny:
		return ""
	case bits&(techLTE|tech5GNR) == techLTE|tech5GNR:
		return "5G NSA"
	}
	for _, t := range technologies {
		if bits&t.bits != 0 {
			return t.name
		}
	}
	return ""
}

// The locks that uqmi tells of too.
const (
	lockPIN = 2
	lockPUK = 4
)

// locks are by MMModemLock.
var locks = [...]string{lockPIN: "sim-pin", 3: "sim-pin2", lockPUK: "sim-puk", 5: "sim-puk2", 6: "ph-sp-pin", 7: "ph-sp-puk", 8: "ph-net-pin", 9: "ph-net-puk",
	10: "ph-sim-pin", 11: "ph-corp-pin", 12: "ph-corp-puk", 13: "ph-fsim-pin", 14: "ph-fsim-puk", 15: "ph-netsub-pin", 16: "ph-netsub-puk"}

// lock names what has to be entered, with the tries that are left.
func lock(required uint32, retries map[uint32]uint32) string {
	name := ""
	if required < uint32(len(locks)) {
		name = locks[required]
	}
	if name == "" {
		name = "unknown"
	}
	if n, known := retries[required]; known {
		return fmt.Sprintf("%s, %d tries left", name, n)
	}
	return name
}

// failures are by MMModemStateFailedReason.
var failures = [...]string{"", "unknown", "no SIM", "SIM error", "unknown capabilities", "eSIM without profiles"}

func failure(reason uint32) string {
	if reason == 0 || reason >= uint32(len(failures)) {
		return failures[1]
	}
	return failures[reason]
}

// rejection says why a network has rejected the modem (3GPP TS 24.008 annex G).
func rejection(p properties) string {
	code, known := p["error"].Value().(uint32)
	if !known || code == 0 {
		return ""
	}
	reason := map[uint32]string{2: "unknown subscriber", 3: "illegal subscriber", 6: "illegal modem", 7: "no data in this tariff", 8: "no service in this tariff",
		11: "network not allowed", 12: "area not allowed", 13: "roaming not allowed in this area", 14: "no data in this network",
		15: "no suitable cell", 17: "network failure", 22: "congestion", 33: "option not subscribed"}[code]
	if reason == "" {
		reason = fmt.Sprintf("cause %d", code)
	}
	if by := clean(get[string](p, "operator-name")); by != "" {
		reason += ", by " + by
	}
	return reason
}

// ipTypes are by MMBearerIpFamily.
func ipType(family uint32) string {
	switch {
	case family&(1<<3) != 0 && family&7 == 0, family&7 == 0: // not IP, or none
		return ""
	case family&(1<<2) != 0, family&3 == 3:
		return "ipv4v6"
	case family&2 != 0:
		return "ipv6"
	}
	return "ipv4"
}
