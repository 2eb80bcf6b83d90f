// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Type is the type of a TLV (RFC 8803, section 6.2.2).
type Type uint8

// The TLVs of version 1.
const (
	TypeInfo                   Type = 1
	TypeConnect                Type = 10
	TypeExtendedTCPHeader      Type = 20
	TypeSupportedTCPExtensions Type = 21
	TypeCookie                 Type = 22
	TypeError                  Type = 30

	// TypeFamilies is braid's own, from the range that is left for private use,
	// 192 to 255 (section 10.2.2). It is sent to nobody who has not shown that
	// he knows it.
	TypeFamilies Type = 198
)

func (t Type) String() string {
	switch t {
	case TypeInfo:
		return "Info"
	case TypeConnect:
		return "Connect"
	case TypeExtendedTCPHeader:
		return "Extended TCP Header"
	case TypeSupportedTCPExtensions:
		return "Supported TCP Extensions"
	case TypeCookie:
		return "Cookie"
	case TypeError:
		return "Error"
	case TypeFamilies:
		return "Families"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// TLV is one of [Info], [Connect], [ExtendedTCPHeader],
// [SupportedTCPExtensions], [Cookie], [Error] and [Families].
//
// The wire counts words, not bytes: a byte field that does not fill its last
// word comes back with zeros at its end.
type TLV interface {
	Type() Type
	// appendValue appends what follows Type and Length, without the padding.
	appendValue(b []byte) ([]byte, error)
}

// parsers holds how to decode what follows Type and Length, at least two bytes
// and always two more than a multiple of four.
var parsers = [256]func([]byte) (TLV, error){
	TypeInfo:                   parseInfo,
	TypeConnect:                parseConnect,
	TypeExtendedTCPHeader:      parseExtendedTCPHeader,
	TypeSupportedTCPExtensions: parseSupportedTCPExtensions,
	TypeCookie:                 parseCookie,
	TypeError:                  parseError,
	TypeFamilies:               parseFamilies,
}

// Info asks a converter which TCP options it can negotiate with servers
// (section 6.2.3). The answer is [SupportedTCPExtensions].
type Info struct{}

// Type returns [TypeInfo].
func (Info) Type() Type { return TypeInfo }

func (Info) appendValue(b []byte) ([]byte, error) {
	return append(b, 0, 0), nil
}

func parseInfo(v []byte) (TLV, error) {
	if len(v) != 2 {
		return nil, fmt.Errorf("%d words instead of 1", (2+len(v))/word)
	}
	return Info{}, nil
}

// Families tells, beside [SupportedTCPExtensions], in which address families
// the converter reaches servers. Beside [Info] it asks for that, and both are
// false.
type Families struct {
	IPv4, IPv6 bool
}

// The bits of the second byte; the first is zero.
const (
	familyIPv4 = 1 << iota
	familyIPv6
)

// With is f and, if reached, a's family.
func (f Families) With(a netip.Addr, reached bool) Families {
	if a.Unmap().Is4() {
		f.IPv4 = f.IPv4 || reached
	} else {
		f.IPv6 = f.IPv6 || reached
	}
	return f
}

// Type returns [TypeFamilies].
func (Families) Type() Type { return TypeFamilies }

func (f Families) appendValue(b []byte) ([]byte, error) {
	var bits byte
	if f.IPv4 {
		bits |= familyIPv4
	}
	if f.IPv6 {
		bits |= familyIPv6
	}
	return append(b, 0, bits), nil
}

// parseFamilies ignores bits and words that a later version may add.
func parseFamilies(v []byte) (TLV, error) {
	return Families{IPv4: v[1]&familyIPv4 != 0, IPv6: v[1]&familyIPv6 != 0}, nil
}

// Connect asks a converter for a connection to a server (section 6.2.5).
type Connect struct {
	// Remote is the server. Never a multicast, broadcast, loopback or
	// unspecified address, and never an IPv4-mapped one when decoded.
	Remote netip.AddrPort
	// Options are to go into the SYN to the server. An option without a value
	// is the converter's to fill in.
	Options Options
}

// NewConnect is a Connect that asks for the TCP options kinds and leaves their
// values to the converter, as Multipath TCP wants it (section 7.5).
func NewConnect(remote netip.AddrPort, kinds ...byte) Connect {
	c := Connect{Remote: remote}
	for _, k := range kinds {
		c.Options = append(c.Options, k, 2)
	}
	return c
}

// Extended reports whether c is an Extended Connect, which a converter that
// succeeds has to answer with an [ExtendedTCPHeader].
func (c Connect) Extended() bool { return len(c.Options) > 0 }

// Type returns [TypeConnect].
func (Connect) Type() Type { return TypeConnect }

func (c Connect) appendValue(b []byte) ([]byte, error) {
	addr := c.Remote.Addr()
	if !addr.IsValid() || addr.Zone() != "" {
		return nil, fmt.Errorf("%v is no address that can be sent", c.Remote)
	}
	if err := checkRemote(addr.Unmap()); err != nil {
		return nil, err
	}
	if err := c.Options.check(); err != nil {
		return nil, err
	}
	ip := addr.As16()
	b = binary.BigEndian.AppendUint16(b, c.Remote.Port())
	b = append(b, ip[:]...)
	return append(b, c.Options...), nil
}

func parseConnect(v []byte) (TLV, error) {
	const base = 2 + 16
	if len(v) < base {
		return nil, fmt.Errorf("%d words, at least 5 are needed", (2+len(v))/word)
	}
	addr := netip.AddrFrom16([16]byte(v[2:base])).Unmap()
	if err := checkRemote(addr); err != nil {
		return nil, err
	}
	c := Connect{
		Remote:  netip.AddrPortFrom(addr, binary.BigEndian.Uint16(v)),
		Options: orNil(v[base:]),
	}
	if err := c.Options.check(); err != nil {
		return nil, err
	}
	return c, nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// checkRemote holds section 6.2.5, which names multicast, broadcast and
// loopback. Unspecified belongs to them: Linux connects it to the host itself.
func checkRemote(a netip.Addr) error {
	switch {
	case a.IsMulticast():
		return fmt.Errorf("multicast address %v", a)
	case a == broadcast:
		return fmt.Errorf("broadcast address %v", a)
	case a.IsLoopback():
		return fmt.Errorf("loopback address %v", a)
	case a.IsUnspecified():
		return fmt.Errorf("unspecified address %v", a)
	}
	return nil
}

// ExtendedTCPHeader tells the client the TCP options of the server's SYN+ACK
// (section 6.2.6). They are the server's and not checked.
type ExtendedTCPHeader struct {
	Options Options
}

// Type returns [TypeExtendedTCPHeader].
func (ExtendedTCPHeader) Type() Type { return TypeExtendedTCPHeader }

func (h ExtendedTCPHeader) appendValue(b []byte) ([]byte, error) {
	return append(append(b, 0, 0), h.Options...), nil
}

func parseExtendedTCPHeader(v []byte) (TLV, error) {
	return ExtendedTCPHeader{Options: orNil(v[2:])}, nil
}

// SupportedTCPExtensions lists the kinds of the TCP options that a converter
// can negotiate with servers (section 6.2.4). The kinds 0, 1, 2, 3, 5 and 29 do
// not belong into it (section 7).
type SupportedTCPExtensions struct {
	Kinds []byte
}

// Type returns [TypeSupportedTCPExtensions].
func (SupportedTCPExtensions) Type() Type { return TypeSupportedTCPExtensions }

func (s SupportedTCPExtensions) appendValue(b []byte) ([]byte, error) {
	return append(append(b, 0, 0), s.Kinds...), nil
}

func parseSupportedTCPExtensions(v []byte) (TLV, error) {
	return SupportedTCPExtensions{Kinds: trimZeros(v[2:])}, nil
}

// Cookie shows the converter who the client is (section 6.2.7).
type Cookie struct {
	Value []byte
}

// Equal reports whether c shows secret, in a time that depends on their
// lengths only. The zeros that pad a cookie on the wire do not count. An empty
// secret equals nothing.
func (c Cookie) Equal(secret []byte) bool {
	n := len(secret)
	if n == 0 || len(c.Value) < n || len(c.Value) >= n+word {
		return false
	}
	var zeros [word]byte
	return subtle.ConstantTimeCompare(c.Value[:n], secret)&
		subtle.ConstantTimeCompare(c.Value[n:], zeros[:len(c.Value)-n]) == 1
}

// Type returns [TypeCookie].
func (Cookie) Type() Type { return TypeCookie }

func (c Cookie) appendValue(b []byte) ([]byte, error) {
	return append(append(b, 0, 0), c.Value...), nil
}

func parseCookie(v []byte) (TLV, error) {
	return Cookie{Value: orNil(v[2:])}, nil
}

// orNil gives an empty list its one form, so that decoded messages compare.
func orNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// trimZeros takes the padding off a list in which zero does not occur.
func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return orNil(b)
}
