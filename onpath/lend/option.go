// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lend

import (
	"encoding/binary"
	"net/netip"

	"braid/onpath/sha256"
)

// Token is by which a peer's joins name the connection of a key's owner
// (RFC 8684 section 3.2): the first 32 bits of the key's SHA-256.
func (k Key) Token() uint32 {
	h := sha256.Sum(k[:])
	return binary.BigEndian.Uint32(h[:])
}

// Address is one that is announced.
type Address struct {
	// ID is the address's at the client, 1 to 255: the server's own announcements
	// have small ones, and those that the kernel numbers by itself.
	ID uint8
	// Addr is what the client is to join; with port 0 at the connection's own.
	Addr netip.AddrPort
}

// option is the ADD_ADDR by which the owner of the sender's key announces an
// address to that of the receiver's (RFC 8684 section 3.4.1).
func (a Address) option(sender, receiver Key) []byte {
	ip := a.Addr.Addr().AsSlice()
	o := append([]byte{optionMPTCP, 0, subtypeAddAddr << 4, a.ID}, ip...)
	if a.Addr.Port() != 0 {
		o = binary.BigEndian.AppendUint16(o, a.Addr.Port())
	}
	// What is signed has a port in any case.
	signed := append([]byte{a.ID}, ip...)
	signed = binary.BigEndian.AppendUint16(signed, a.Addr.Port())
	mac := sha256.HMAC(append(sender[:], receiver[:]...), signed)
	o = append(o, mac[len(mac)-8:]...)
	o[1] = byte(len(o))
	return o
}
