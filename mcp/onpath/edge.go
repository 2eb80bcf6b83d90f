// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"

	"braid/onpath/program"
	"braid/onpath/siit"
	"braid/onpath/tun"
	"braid/transport/journal"
	"braid/transport/mptcp"
)

// Addresses inside the translator (RFC 7335): nobody's elsewhere. Behind the lent
// prefix they are as little a server's.
var (
	subnet4 = netip.MustParsePrefix("192.0.0.0/29")
	device4 = netip.MustParseAddr("192.0.0.1")
	inner4  = netip.MustParseAddr("192.0.0.2") // of all clients, behind their NAT
	own4    = netip.MustParseAddr("192.0.0.3") // of the converter, where it takes joins itself
)

const (
	// ownID is the endpoint by which the kernel takes joins to converted
	// connections; those of mcp/host follow.
	ownID   = 207
	ownPort = 5125
	// mtu is that of Ethernet. A client of IPv6 announces segments that fit it,
	// and the server's are shorter by the difference of the headers.
	mtu = 1500
)

// edge is where lent addresses lead: a translator from IPv6 to IPv4 behind a
// device.
//
//	client6 -> PREFIX::server4                            server4
//	      | IPv6                                             ^ IPv4, masqueraded
//	+-----v--------------------- kernel ---------------------|---+
//	|  source NAT to inner6                from 192.0.0.2    |   |
//	|     |                                                  |   |
//	|     +------> TUN's program, what it can do ----------->+   |
//	+-----|--------------------------------------------------^---+
//	      +--------> TUN -> siit.Translator -> TUN ----------+
type edge struct {
	device     *tun.Device
	translator *siit.Translator
	program    *program.Program // nil: the kernel has it not

	packets, dropped *atomic.Uint64
	over             atomic.Bool // it does not run any more
}

// inner6 is inner4 as the addresses behind a prefix know it.
func inner6(prefix netip.Prefix) netip.Addr { return program.Neutral(prefix, inner4) }

// openEdge makes the device and routes the prefix into it. All of it goes with
// the process.
func openEdge(log *journal.Log, prefix netip.Prefix, packets, dropped *atomic.Uint64) (_ *edge, err error) {
	t, err := siit.NewTranslator(prefix, inner4, inner6(prefix))
	if err != nil {
		return nil, err
	}
	t.Outward = true
	e := &edge{translator: t, packets: packets, dropped: dropped}
	if e.device, err = tun.Open("braid64-%d", mtu); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	name := e.device.Name()
	if err := e.device.Up(device4); err != nil {
		return nil, err
	}
	if err := routeInto(name, netip.PrefixFrom(inner4, inner4.BitLen())); err != nil {
		return nil, err
	}
	if err := routeInto(name, prefix); err != nil {
		return nil, err
	}
	var without error
	e.program, without = program.Attach(name, mtu, program.Addresses{Prefix: prefix, IPv4: inner4, IPv6: inner6(prefix)})
	if without != nil {
		log.Warn("translating one packet after the other", "device", name, "error", without)
	}
	if err := address(name, embed(prefix, own4)); err != nil {
		return nil, err
	}
	return e, nil
}

// byKernel is how many packets the kernel has translated by itself.
func (e *edge) byKernel() uint64 {
	if e.program == nil {
		return 0
	}
	return e.program.Packets()
}

func (e *edge) close() error {
	err := e.device.Close()
	if e.program != nil {
		e.packets.Add(e.program.Packets())
		err = errors.Join(err, e.program.Close())
	}
	return err
}

// run translates what is left to it until the device is closed, or is not there any more.
func (e *edge) run(log *journal.Log) {
	defer e.over.Store(true)
	in := make([]byte, 1<<16)
	out := make([]byte, len(in)+siit.Growth)
	for {
		n, err := e.device.Read(in)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				log.Warn("translating ends", "device", e.device.Name(), "error", err)
			}
			return
		}
		if err = e.carry(out, in[:n]); err != nil {
			e.dropped.Add(1)
			log.Debug("translating", "bytes", n, "error", err)
			continue
		}
		e.packets.Add(1)
	}
}

func (e *edge) carry(out, in []byte) error {
	if len(in) > 0 && in[0]>>4 == 6 {
		n, err := e.translator.Translate6to4(out, in)
		if err == nil {
			_, err = e.device.Write(out[:n])
		}
		return err
	}
	n, err := e.translator.Translate4to6(out, in)
	if err != nil {
		return err
	}
	for piece := range siit.Pieces(out[:n], in, mtu) {
		if _, err := e.device.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// embed puts an IPv4 address behind a lent prefix.
func embed(prefix netip.Prefix, ipv4 netip.Addr) netip.Addr {
	a, err := siit.Embed(prefix, ipv4)
	if err != nil {
		panic(fmt.Sprintf("the configuration has let through %v: %v", prefix, err))
	}
	return a
}

// takeJoins has the kernel take joins to converted connections at the address
// that is announced to their clients: on a connection that was intercepted it
// takes none to the port that is its own.
func takeJoins(prefix netip.Prefix) error {
	want := mptcp.Endpoint{ID: ownID, Addr: embed(prefix, own4), Port: ownPort, Flags: mptcp.FlagSignal}
	have, err := mptcp.Endpoints()
	if err != nil {
		return err
	}
	if slices.Contains(have, want) { // of one that hands over: its clients need not notice
		return nil
	}
	return errors.Join(refuseJoins(), mptcp.AddEndpoint(want))
}

// refuseJoins undoes takeJoins, also of a process that was killed.
func refuseJoins() error {
	have, err := mptcp.Endpoints()
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, e := range have {
		if e.ID == ownID && e.Port == ownPort {
			return mptcp.DeleteEndpoint(e)
		}
	}
	return nil
}
