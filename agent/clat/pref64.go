// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat

import (
	"encoding/binary"
	"net/netip"
	"time"

	"braid/onpath/siit"
)

// optionPREF64 is the type of the option in router advertisements that tells
// of a NAT64 prefix (RFC 8781), of a length in units of 8 bytes.
const (
	optionPREF64 = 38
	lengthPREF64 = 2
)

// lengths are those of prefixes by their code (RFC 8781, 4).
var lengths = [...]int{96, 64, 56, 48, 40, 32}

// parsePREF64 finds the first prefix among the options of an advertisement that is not
// withdrawn; if all are, the first one, with a Lifetime of 0.
func parsePREF64(options []byte) (found NAT64, ok bool) {
	for len(options) >= 8 {
		n := int(options[1]) * 8
		if n == 0 || n > len(options) {
			break
		}
		o := options[:n]
		options = options[n:]
		if o[0] != optionPREF64 || o[1] != lengthPREF64 {
			continue
		}
		scaled := binary.BigEndian.Uint16(o[2:])
		if code := int(scaled & 7); code < len(lengths) {
			var a [16]byte
			copy(a[:], o[4:])
			p := netip.PrefixFrom(netip.AddrFrom16(a), lengths[code]).Masked()
			if siit.Check(p) == nil {
				// 13 bits of units of 8 seconds.
				n := NAT64{Prefix: p, Lifetime: time.Duration(scaled&^7) * time.Second, Origin: OriginRouter}
				if n.Lifetime > 0 {
					return n, true
				}
				if !ok {
					found, ok = n, true
				}
			}
		}
	}
	return found, ok
}
