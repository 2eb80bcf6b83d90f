// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package modem tells what the modems of cellular WANs know of their networks.
// It asks ModemManager where that runs, else uqmi where netifd uses QMI. What
// identifies subscriber or device is read to find modems, and never told.
package modem

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Target is a WAN whose modem is to be watched.
type Target struct {
	WAN    string
	Modem  string // "auto", an IMEI, or the modem's object path in ModemManager
	Device string // the WAN's network device now, or ""
	QMI    bool   // netifd's protocol is qmi
}

// Source is who tells.
type Source string

// The sources.
const (
	SourceManager Source = "modemmanager"
	SourceUQMI    Source = "uqmi"
	SourceNone    Source = "none" // there is what the kernel shows, and nothing else
)

// Registration is how the modem stands with the network.
type Registration string

// The registrations. What ModemManager calls SMS only, or not preferred for
// calls back to 3G, concerns no data, and is home or roaming.
const (
	Unknown    Registration = ""
	Idle       Registration = "idle" // neither registered nor looking for a network
	Home       Registration = "home"
	Searching  Registration = "searching"
	Denied     Registration = "denied"
	Roaming    Registration = "roaming"
	Emergency  Registration = "emergency"  // for nothing but emergency calls
	Restricted Registration = "restricted" // for restricted local operator services (3GPP TS 23.221): no data
)

// Facts is what is known of a WAN's modem. The zero value of anything is that
// it is not known.
type Facts struct {
	Source       Source
	Present      bool // there is such a modem
	Model        string
	Operator     string
	Technology   string  // "LTE", "5G", "5G NSA", ...
	Signal       int     // percent
	RSRP         float64 // dBm
	RSRQ, SINR   float64 // dB
	Registration Registration
	// Roaming says so also while it is not known whether that has ended.
	Roaming bool
	Lock    string // what has to be entered, and how many tries are left
	Failure string // why there is no service
	IPType  string // ipv4, ipv6 or ipv4v6: what the network has granted, else what it grants
	MTU     int    // bytes, of the bearer
}

// Down is why the WAN cannot work, for as long as the modem says so; "" if
// nothing speaks against it, or if what does may be over: uqmi is asked seldom.
func (f Facts) Down() string {
	if f.Source != SourceManager {
		return ""
	}
	return f.Trouble()
}

// Trouble is what the modem knows of why a WAN does not work; "" if nothing.
func (f Facts) Trouble() string {
	if f.Lock != "" {
		return "SIM locked: " + f.Lock
	}
	reason := ""
	switch f.Registration {
	case Denied:
		reason = "registration denied"
	case Idle, Searching:
		reason = "not registered"
	case Emergency:
		reason = "emergency calls only"
	case Restricted:
		reason = "restricted services only"
	case Unknown:
		if f.Failure != "" {
			return "modem failed: " + f.Failure
		}
	}
	if reason != "" && f.Failure != "" {
		reason += ": " + f.Failure
	}
	return reason
}

// Weak says that so little of the network is received that the line may soon
// be lost. RSRP below -118 dBm is the edge of a cell in LTE and 5G alike.
func (f Facts) Weak() bool {
	return f.RSRP != 0 && f.RSRP < -118 || f.RSRP == 0 && f.Signal > 0 && f.Signal <= 5
}

// Condition is the state of the modem in a word, and what there is to say of it:
// absent, locked, failed, unknown or its registration.
func (f Facts) Condition() (state, reason string) {
	switch {
	case !f.Present:
		return "absent", ""
	case f.Lock != "":
		return "locked", f.Lock
	case f.Registration == Unknown && f.Failure != "":
		return "failed", f.Failure
	case f.Registration == Unknown:
		return "unknown", ""
	case f.Failure != "":
		return string(f.Registration), f.Failure
	}
	return string(f.Registration), f.Operator
}

// maxText bounds what a network or a modem calls itself, in bytes.
const maxText = 64

// clean makes a text from a network fit to be shown: one line, nothing that
// changes how the rest is shown, of bounded length. Markup stays, whoever shows
// it in a page writes it as text.
func clean(text string) string {
	var s strings.Builder
	for _, r := range strings.TrimSpace(text) {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			continue
		}
		if s.Len()+utf8.RuneLen(r) > maxText {
			break
		}
		s.WriteRune(r)
	}
	return strings.TrimSpace(s.String())
}
