// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/binary"
	"fmt"

	. "github.com/cilium/ebpf/asm" //lint:ignore ST1001 an assembler's words are a language
)

// Where things are in struct __sk_buff (linux/bpf.h).
const (
	skbLen      = 0
	skbProtocol = 16
	skbIfindex  = 40
	skbGSOSize  = 176
)

const (
	header4 = 20
	header6 = 40
	tcp     = 6
	// df is "don't fragment", and fragment what makes a packet one (RFC 791).
	df       = 0x4000
	fragment = 0x3fff
)

// Verdicts of a program on a device's way out (linux/pkt_cls.h), and where to
// redirect is received.
const (
	pass    = 0
	drop    = 2
	ingress = 1
)

// Headers on the stack: the packet's and the new one.
const (
	from = -40
	to   = -80
)

// big is a field of two bytes as the processor reads it.
func big(v uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)))
}

// word is one of four.
func word(b []byte) int32 { return int32(binary.NativeEndian.Uint32(b)) }

// translate makes the program. R6 is the packet.
//
// What is not for it passes; the decision is made before anything is changed.
func translate(a Addresses, mtu, counter int) Instructions {
	ipv4, ipv6, prefix := a.IPv4.As4(), a.IPv6.As16(), a.Prefix.Masked().Addr().As16()
	return join(
		Instructions{
			Mov.Reg(R6, R1),
			LoadMem(R2, R6, skbProtocol, Word),
			JEq.Imm(R2, big(0x86dd), "to4"),
			JNE.Imm(R2, big(0x0800), "pass"),
		},
		to6(ipv4[:], ipv6[:], prefix[:12], mtu, counter),
		to4(ipv4[:], ipv6[:], prefix[:12], counter),
		Instructions{
			Mov.Imm(R0, pass).WithSymbol("pass"),
			Return(),
			Mov.Imm(R0, drop).WithSymbol("drop"),
			Return(),
		},
	)
}

// to4 translates what ipv6 sends to an address in the prefix.
func to4(ipv4, ipv6, prefix []byte, counter int) Instructions {
	return join(
		labelled("to4", load(header6)),
		Instructions{LoadMem(R2, RFP, from+6, Byte), JNE.Imm(R2, tcp, "pass")},
		are(from+8, ipv6),
		are(from+24, prefix),
		Instructions{
			// Version and length of the header, traffic class, length.
			LoadMem(R2, RFP, from, Half), HostTo(BE, R2, Half), RSh.Imm(R2, 4), And.Imm(R2, 0xff),
			StoreImm(RFP, to, 0x45, Byte), StoreMem(RFP, to+1, R2, Byte),
			LoadMem(R2, RFP, from+4, Half), HostTo(BE, R2, Half), Add.Imm(R2, header4), HostTo(BE, R2, Half), StoreMem(RFP, to+2, R2, Half),
			StoreImm(RFP, to+4, 0, Half), StoreImm(RFP, to+6, int64(big(df)), Half),
			LoadMem(R2, RFP, from+7, Byte), StoreMem(RFP, to+8, R2, Byte), StoreImm(RFP, to+9, tcp, Byte),
			StoreImm(RFP, to+10, 0, Half),
			StoreImm(RFP, to+12, int64(word(ipv4)), Word),
			LoadMem(R2, RFP, from+36, Word), StoreMem(RFP, to+16, R2, Word),
		},
		sum(),
		finish(0x0800, header4, counter),
	)
}

// to6 translates what is sent to ipv4.
func to6(ipv4, ipv6, prefix []byte, mtu, counter int) Instructions {
	is := join(
		load(header4),
		Instructions{
			LoadMem(R2, RFP, from, Byte), JNE.Imm(R2, 0x45, "pass"),
			LoadMem(R2, RFP, from+9, Byte), JNE.Imm(R2, tcp, "pass"),
			LoadMem(R2, RFP, from+6, Half), And.Imm(R2, big(fragment)), JNE.Imm(R2, 0, "pass"),
		},
		are(from+16, ipv4),
		Instructions{
			// One that does not fit any more is cut, or answered, elsewhere.
			LoadMem(R2, R6, skbGSOSize, Word), JNE.Imm(R2, 0, "fits"),
			LoadMem(R2, R6, skbLen, Word), JGT.Imm(R2, int32(mtu-(header6-header4)), "pass"),
			LoadMem(R2, RFP, from+1, Byte).WithSymbol("fits"), LSh.Imm(R2, 20), Or.Imm(R2, 0x60000000), HostTo(BE, R2, Word), StoreMem(RFP, to, R2, Word),
			LoadMem(R2, RFP, from+2, Half), HostTo(BE, R2, Half), Sub.Imm(R2, header4), HostTo(BE, R2, Half), StoreMem(RFP, to+4, R2, Half),
			StoreImm(RFP, to+6, tcp, Byte),
			LoadMem(R2, RFP, from+8, Byte), StoreMem(RFP, to+7, R2, Byte),
		},
	)
	is = append(is, store(to+8, prefix)...)
	is = append(is, LoadMem(R2, RFP, from+12, Word), StoreMem(RFP, to+20, R2, Word))
	is = append(is, store(to+24, ipv6)...)
	return append(is, finish(0x86dd, header6, counter)...)
}

// load copies the packet's header to the stack.
func load(n int32) Instructions {
	return Instructions{
		Mov.Reg(R1, R6),
		Mov.Imm(R2, 0),
		Mov.Reg(R3, RFP), Add.Imm(R3, from),
		Mov.Imm(R4, n),
		FnSkbLoadBytes.Call(),
		JNE.Imm(R0, 0, "pass"),
	}
}

// are has pass what has other bytes there, of which there are whole words.
func are(at int16, b []byte) (is Instructions) {
	for i := 0; i < len(b); i += 4 {
		is = append(is, LoadMem(R2, RFP, at+int16(i), Word), JNE.Imm32(R2, word(b[i:]), "pass"))
	}
	return is
}

func store(at int16, b []byte) (is Instructions) {
	for i := 0; i < len(b); i += 4 {
		is = append(is, StoreImm(RFP, at+int16(i), int64(word(b[i:])), Word))
	}
	return is
}

// sum puts the checksum into the new IPv4 header.
func sum() Instructions {
	is := Instructions{Mov.Imm(R3, 0)}
	for i := int16(0); i < header4; i += 2 {
		is = append(is, LoadMem(R2, RFP, to+i, Half), Add.Reg(R3, R2))
	}
	for range 2 {
		is = append(is, Mov.Reg(R2, R3), RSh.Imm(R2, 16), And.Imm(R3, 0xffff), Add.Reg(R3, R2))
	}
	return append(is, Xor.Imm(R3, 0xffff), StoreMem(RFP, to+10, R3, Half))
}

// finish changes the header, counts, and has the packet received.
func finish(protocol uint16, n int32, counter int) Instructions {
	counted := fmt.Sprint("counted", n)
	return Instructions{
		Mov.Reg(R1, R6), Mov.Imm(R2, big(protocol)), Mov.Imm(R3, 0),
		FnSkbChangeProto.Call(),
		JNE.Imm(R0, 0, "drop"),
		Mov.Reg(R1, R6), Mov.Imm(R2, 0), Mov.Reg(R3, RFP), Add.Imm(R3, to), Mov.Imm(R4, n), Mov.Imm(R5, 0),
		FnSkbStoreBytes.Call(),
		JNE.Imm(R0, 0, "drop"),
		StoreImm(RFP, from, 0, Word),
		LoadMapPtr(R1, counter), Mov.Reg(R2, RFP), Add.Imm(R2, from),
		FnMapLookupElem.Call(),
		JEq.Imm(R0, 0, counted),
		LoadMem(R1, R0, 0, DWord), Add.Imm(R1, 1), StoreMem(R0, 0, R1, DWord),
		LoadMem(R1, R6, skbIfindex, Word).WithSymbol(counted),
		Mov.Imm(R2, ingress),
		FnRedirect.Call(),
		Return(),
	}
}

func labelled(name string, is Instructions) Instructions {
	is[0] = is[0].WithSymbol(name)
	return is
}

func join(parts ...Instructions) (all Instructions) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
