// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lend

import (
	"encoding/binary"

	"braid/onpath/segment"
)

// Kinds of TCP options.
const (
	optionEnd   = 0
	optionNop   = 1
	optionMPTCP = 30
)

// Subtypes of the MPTCP option (RFC 8684 section 8).
const (
	subtypeCapable = 0
	subtypeJoin    = 1
	subtypeDSS     = 2
	subtypeAddAddr = 3
)

// version is the one of MPTCP that is understood (RFC 8684 section 3.1).
const version = 1

// Key is what one end of a connection has chosen at random (RFC 8684 section
// 3.1).
type Key [8]byte

// options are those of MPTCP in a segment.
type options struct {
	keys     bool // MP_CAPABLE with both keys: the third packet, or first data
	sender   Key
	receiver Key
	join     bool // MP_JOIN of a SYN
	joined   bool // MP_JOIN of the third packet of a join
	token    uint32
	dss      bool // there is a Data Sequence Signal
	echo     bool // of an ADD_ADDR
	echoed   uint8
}

// parse reads a segment's options, and says whether they are well formed.
func parse(s *segment.Segment) (found options, ok bool) {
	for o := s.Options; len(o) > 0 && o[0] != optionEnd; {
		if o[0] == optionNop {
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return found, false
		}
		if o[0] == optionMPTCP && o[1] >= 4 {
			found.mptcp(s.Flags, o[:o[1]])
		}
		o = o[o[1]:]
	}
	return found, true
}

// mptcp reads an MPTCP option of at least four bytes.
func (f *options) mptcp(flags byte, o []byte) {
	switch subtype := o[2] >> 4; {
	case subtype == subtypeCapable && flags&segment.SYN == 0 && o[2]&15 == version && len(o) >= 20: // 22 or 24 with data (section 3.1)
		f.keys, f.sender, f.receiver = true, Key(o[4:12]), Key(o[12:20])
	case subtype == subtypeJoin && flags&(segment.SYN|segment.ACK) == segment.SYN && len(o) == 12:
		f.join, f.token = true, binary.BigEndian.Uint32(o[4:])
	case subtype == subtypeJoin && flags&segment.SYN == 0 && len(o) == 24:
		f.joined = true
	case subtype == subtypeDSS:
		f.dss = true
	case subtype == subtypeAddAddr:
		f.echo, f.echoed = o[2]&1 != 0, o[3]
	}
}
