// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"braid/transport/journal"
)

// boolean takes what UCI takes for true and false.
func boolean(text string) (bool, error) {
	switch text {
	case "1", "on", "true", "yes", "enabled":
		return true, nil
	case "0", "off", "false", "no", "disabled":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither 1 nor 0", text)
}

// integer returns a parser of decimal numbers from low to high.
func integer(low, high int) func(string) (int, error) {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("%q is not a number from %d to %d", text, low, high)
		}
		return n, nil
	}
}

// enum returns a parser of one of words.
func enum[T ~string](words ...T) func(string) (T, error) {
	return func(text string) (T, error) {
		names := make([]string, len(words))
		for i, w := range words {
			if text == string(w) {
				return w, nil
			}
			names[i] = string(w)
		}
		last := len(names) - 1
		return "", fmt.Errorf("%q is not %s or %s", text, strings.Join(names[:last], ", "), names[last])
	}
}

// logLevel takes the names of the journal's levels in lower case.
func logLevel(text string) (journal.Level, error) {
	var level journal.Level
	name, err := enum("debug", "info", "warn", "error")(text)
	if err != nil {
		return level, err
	}
	return level, level.UnmarshalText([]byte(name))
}

const (
	digits  = "0123456789"
	lower   = "abcdefghijklmnopqrstuvwxyz"
	letters = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// only says whether text has characters, and none but these.
func only(text, characters string) bool {
	return text != "" && strings.Trim(text, characters) == ""
}

// link takes the name of a netifd interface or of a device. It ends up in
// packet filter rules, where other characters have a meaning.
func link(text string) (string, error) {
	if !only(text, letters+digits+"_.-") || len(text) > 32 || strings.Trim(text, ".") == "" {
		return "", fmt.Errorf("%q is not an interface: 1 to 32 letters, digits, _ . and -", text)
	}
	return text, nil
}

// name takes that of another section.
func name(text string) (string, error) { return text, nil }

// device takes the name of a device, which IFNAMSIZ bounds.
func device(text string) (string, error) {
	if _, err := link(text); err != nil || len(text) > 15 {
		return "", fmt.Errorf("%q is not a device: 1 to 15 letters, digits, _ . and -", text)
	}
	return text, nil
}

// address takes an IP address a packet can be sent to. IPv4 in IPv6 notation
// becomes IPv4.
func address(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", text)
	}
	a = a.Unmap()
	switch {
	case a.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%q has a zone, which is not needed here", text)
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return netip.Addr{}, fmt.Errorf("%q is not the address of one host", text)
	}
	return a, nil
}

// remote takes an address that lies beyond this host.
func remote(text string) (netip.Addr, error) {
	a, err := address(text)
	if err == nil && a.IsLoopback() {
		return netip.Addr{}, fmt.Errorf("%q is this host itself", text)
	}
	return a, err
}

// host takes an IP address or a host name.
func host(text string) (Host, error) {
	a, err := address(text)
	if err == nil {
		if a.IsLinkLocalUnicast() {
			return Host{}, fmt.Errorf("%q reaches no further than one link", text)
		}
		return Host{Addr: a}, nil
	}
	if _, notIP := netip.ParseAddr(text); notIP == nil {
		return Host{}, err
	}
	name, err := domain(text)
	if strings.HasPrefix(text, "braid://") { // with a key, which is not shown
		return Host{}, errors.New("is what `braid pair` makes a section of, not an address")
	}
	if err != nil {
		return Host{}, fmt.Errorf("%q is neither an IP address nor a host name", text)
	}
	return Host{Name: name}, nil
}

// label says whether text is a part of a domain name: at most 63 octets (RFC
// 1035 section 2.3.4), of which neither the first nor the last is a hyphen.
func label(text, characters string) bool {
	return len(text) <= 63 && only(text, characters) && strings.Trim(text, "-") == text
}

// isName says whether text is a domain name in lower case. Its last label has
// a letter and no underscore: 192.0.2.300 is a slip, not a name.
func isName(text string) bool {
	labels := strings.Split(text, ".")
	last := len(labels) - 1
	for _, l := range labels[:last] {
		if !label(l, lower+digits+"_-") {
			return false
		}
	}
	return len(text) <= 253 && label(labels[last], lower+digits+"-") && strings.ContainsAny(labels[last], lower)
}

// domain takes a domain name, and returns it in lower case without the dot
// at its end.
func domain(text string) (string, error) {
	if strings.HasPrefix(text, "*.") || strings.HasPrefix(text, ".") {
		return "", fmt.Errorf("%q: leave out what precedes the name, subdomains are included", text)
	}
	name := strings.TrimSuffix(strings.ToLower(text), ".")
	switch {
	case strings.ContainsFunc(text, func(r rune) bool { return r > 0x7f }):
		return "", fmt.Errorf("%q has to be written in ASCII, its form with xn--", text)
	case !isName(name):
		return "", fmt.Errorf("%q is not a domain name", text)
	}
	return name, nil
}

// prefix takes a prefix, or an address as the prefix of this one address.
func prefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a prefix", text)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits beyond its length; the network is %s", text, p.Masked())
	}
	return p, nil
}

// parseMAC takes six pairs of hex digits with colons or hyphens between them.
func parseMAC(text string) (mac MAC, ok bool) {
	pairs := strings.Split(strings.ReplaceAll(text, "-", ":"), ":")
	if len(pairs) != len(mac) {
		return mac, false
	}
	for i, p := range pairs {
		b, err := hex.DecodeString(p)
		if err != nil || len(b) != 1 {
			return mac, false
		}
		mac[i] = b[0]
	}
	return mac, true
}

// source is a prefix or a MAC address, whichever is set.
type source struct {
	prefix netip.Prefix
	mac    MAC
}

func parseSource(text string) (source, error) {
	if mac, ok := parseMAC(text); ok {
		return source{mac: mac}, nil
	}
	p, err := prefix(text)
	if err != nil {
		if _, slip := netip.ParsePrefix(text); slip != nil {
			err = fmt.Errorf("%q is neither an IP address, a prefix nor a MAC address", text)
		}
	}
	return source{prefix: p}, err
}

// port takes a TCP or UDP port.
func port(text string) (uint16, error) {
	n, err := integer(1, 65535)(text)
	return uint16(n), err
}

// ports takes N or N-M.
func ports(text string) (PortRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, err1 := port(first)
	to, err2 := port(last)
	switch {
	case err1 != nil || err2 != nil:
		return PortRange{}, fmt.Errorf("%q is not a port from 1 to 65535 or a range of them", text)
	case from > to:
		return PortRange{}, fmt.Errorf("%q ends before it begins", text)
	}
	return PortRange{First: from, Last: to}, nil
}

// secret takes hex digits for 16 to 64 bytes: as many as cannot be guessed, and
// as fit one Convert message with everything beside it.
func secret(text string) ([]byte, error) {
	const least, most = 16, 64
	b, err := hex.DecodeString(text)
	if err != nil {
		// Not the value: it is a secret, and this ends up in logs.
		return nil, errors.New("not an even number of hex digits")
	}
	if len(b) < least || len(b) > most {
		return nil, fmt.Errorf("%d bytes, not %d to %d; two hex digits are a byte", len(b), least, most)
	}
	return b, nil
}

// modem takes auto, an IMEI or a ModemManager path.
func modem(text string) (string, error) {
	number, isPath := strings.CutPrefix(text, "/org/freedesktop/ModemManager1/Modem/")
	switch {
	case text == "auto",
		isPath && only(number, digits),
		len(text) == 15 && only(text, digits):
		return text, nil
	}
	what := strconv.Quote(text)
	if only(text, digits) { // an IMEI with a slip is nothing for a log
		what = "a number of " + strconv.Itoa(len(text)) + " digits"
	}
	return "", fmt.Errorf("%s is not auto, an IMEI of 15 digits or "+
		"/org/freedesktop/ModemManager1/Modem/N", what)
}
