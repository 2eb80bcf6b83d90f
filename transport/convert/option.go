// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"fmt"
	"iter"
	"slices"
)

// Kinds of TCP options: RFC 9293 section 3.1, RFC 7323, RFC 2018, and RFC 8684
// section 3.
const (
	KindMSS           = 2
	KindWindowScale   = 3
	KindSACKPermitted = 4
	KindMPTCP         = 30

	kindEOL  = 0
	kindNOP  = 1
	kindSACK = 5
)

// Options is a list of TCP options as it stands in a TCP header (RFC 9293,
// section 3.1) and in the Connect and Extended TCP Header TLVs.
type Options []byte

// All yields the options with their values, which are empty for an option of
// length 2. It leaves out NOP, and ends at EOL or where the list is broken.
func (o Options) All() iter.Seq2[byte, []byte] {
	return func(yield func(byte, []byte) bool) {
		for len(o) > 0 {
			kind, value, rest, err := o.next()
			if err != nil || kind == kindEOL {
				return
			}
			if kind != kindNOP && !yield(kind, value) {
				return
			}
			o = rest
		}
	}
}

// MPCapable reports whether o holds MP_CAPABLE (RFC 8684, section 3.1): in a
// SYN+ACK, that the server speaks Multipath TCP. An MPTCP option without a
// value, as in a Connect, has no subtype and does not count.
func (o Options) MPCapable() bool {
	for kind, v := range o.All() {
		if kind == KindMPTCP && len(v) > 0 && v[0]>>4 == 0 {
			return true
		}
	}
	return false
}

// Unsupported lists the kinds in o that a converter which supports only the
// kinds supported has to refuse with [UnsupportedTCPOption]. The ones that it
// has to ignore wherever they come up (RFC 8803, sections 7.1 to 7.3) are not
// among them.
func (o Options) Unsupported(supported ...byte) []byte {
	var kinds []byte
	for kind := range o.All() {
		switch kind {
		case KindMSS, KindWindowScale, kindSACK:
			continue
		}
		if !slices.Contains(supported, kind) && !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// check finds the first option whose length does not add up.
func (o Options) check() error {
	for len(o) > 0 {
		kind, _, rest, err := o.next()
		if err != nil {
			return err
		}
		if kind == kindEOL {
			return nil
		}
		o = rest
	}
	return nil
}

// next splits the first option off o, which is not empty.
func (o Options) next() (kind byte, value []byte, rest Options, err error) {
	kind = o[0]
	if kind == kindEOL || kind == kindNOP {
		return kind, nil, o[1:], nil
	}
	if len(o) < 2 {
		return 0, nil, nil, fmt.Errorf("TCP option %d has no length", kind)
	}
	n := int(o[1])
	if n < 2 || n > len(o) {
		return 0, nil, nil, fmt.Errorf("TCP option %d of %d bytes where %d are left", kind, n, len(o))
	}
	return kind, o[2:n:n], o[n:], nil
}
