// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// ecn are the bits of a traffic class that are the network's own (RFC 3168).
const ecn = 3

// TrafficClass is IPv4's type of service, or IPv6's traffic class, of a packet,
// given from its header on: a DSCP in the upper six bits (RFC 2474). ECN is left
// out.
func TrafficClass(packet []byte) uint8 {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return packet[1] &^ ecn
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return uint8(binary.BigEndian.Uint16(packet)>>4) &^ ecn
	}
	return 0
}

// AnswerInClass gives what is sent on an accepted TCP connection the traffic
// class of its SYN, and returns it. The listener has to have TCP_SAVE_SYN.
func (c *Conn) AnswerInClass() (class uint8, err error) {
	err = c.control(func(fd int) error {
		var syn [256]byte
		n, err := call.Get(fd, unix.IPPROTO_TCP, unix.TCP_SAVED_SYN, syn[:])
		if err != nil {
			return err
		}
		if class = TrafficClass(syn[:n]); class != 0 {
			return setClass(fd, class)
		}
		return nil
	})
	if err != nil {
		return class, fmt.Errorf("traffic class of a connection: %w", err)
	}
	return class, nil
}

// setClass is for both families: an AF_INET6 socket sends IPv4, too, and has
// another option for it. An AF_INET socket has but one, and so has MPTCP, whose
// subflows over IPv6 stay without a class (6.18).
func setClass(fd int, class uint8) error {
	_ = call.Set(fd, unix.SOL_IPV6, unix.IPV6_TCLASS, int(class))
	return call.Set(fd, unix.SOL_IP, unix.IP_TOS, int(class))
}
