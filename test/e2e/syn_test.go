// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
	"braid/transport/convert"
)

// captureSYNs records the data of every SYN that leaves a node over a TUN
// device by IPv4, until stop.
func captureSYNs(t *testing.T, n *lab.Node, device string) (stop func() [][]byte) {
	t.Helper()
	const allProtocols = 0x0300 // ETH_P_ALL in network order, as AF_PACKET wants it
	var f *os.File
	must(t, n.Do(func() error {
		fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, allProtocols)
		if err == nil {
			f = os.NewFile(uintptr(fd), "capture")
		}
		return err
	}))
	var all [][]byte
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			k, err := f.Read(buf)
			if err != nil {
				return
			}
			if data, ok := synData(buf[:k]); ok {
				all = append(all, data)
			}
		}
	})
	stop = sync.OnceValue(func() [][]byte {
		f.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // for what is still under way
		wg.Wait()
		f.Close()
		return all
	})
	t.Cleanup(func() { stop() })
	return stop
}

// synData is the data of a SYN to the converter's port.
func synData(packet []byte) ([]byte, bool) {
	const tcp, fin, syn, ack = 6, 1, 2, 16
	if len(packet) < 20 || packet[0]>>4 != 4 || packet[9] != tcp {
		return nil, false
	}
	segment := packet[int(packet[0]&0xf)*4 : binary.BigEndian.Uint16(packet[2:])]
	if binary.BigEndian.Uint16(segment[2:]) != 5124 || segment[13]&(syn|ack|fin) != syn {
		return nil, false
	}
	return slices.Clone(segment[int(segment[12]>>4)*4:]), true
}

// The first connection fetches a Fast Open cookie; all others carry Connect in
// their SYN.
func TestConnectInSYN(t *testing.T) {
	r := start(t, rig.Options{Lab: lab.Options{Accesses: []lab.Access{lab.Fibre(link.Spec{}, link.Spec{})}}})
	const count = 5
	stop := captureSYNs(t, r.Gateway, "fibre")
	for range count {
		transfer(t, r.FromHost(lab.Server4), traffic.Echo, 10_000)
	}
	want := netip.AddrPortFrom(lab.Server4, rig.Port)
	connects := 0
	for i, data := range stop() { // the agent's own to the converter among them
		if len(data) == 0 {
			continue
		}
		m, n, err := convert.Parse(data)
		if err != nil || n != len(data) {
			t.Errorf("SYN %d with %x: %v", i, data, err)
		}
		if c, ok := convert.Find[convert.Connect](m); ok {
			connects++
			if c.Remote != want {
				t.Errorf("SYN %d asks for %v", i, c.Remote)
			}
		}
	}
	if connects < count-1 {
		t.Errorf("%d of %d connections had Connect in their SYN", connects, count)
	}
	sent, taken := r.Gateway.MIB("TcpExtTCPFastOpenActive"), r.Converter.MIB("TcpExtTCPFastOpenPassive")
	if sent < count-1 || sent != taken {
		t.Errorf("data of %d SYNs was acknowledged, of %d taken", sent, taken)
	}
}

// From the host's SYN to the first byte of the answer it takes no round trip
// more through the converter than without braid: two of 20 ms.
func TestNoExtraRoundTrip(t *testing.T) {
	delay := link.Spec{Delay: 10 * time.Millisecond}
	r := start(t, rig.Options{Idle: true, Lab: lab.Options{Accesses: []lab.Access{lab.Fibre(delay, delay), lab.LTE(delay, delay)}}})
	firstByte := func() time.Duration {
		times := make([]time.Duration, 15)
		for i := range times {
			times[i] = transfer(t, r.FromHost(lab.Server4), traffic.Download, 1000).FirstByte
		}
		slices.Sort(times)
		return times[len(times)/2]
	}
	without := firstByte()
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	must(t, r.StartAgent())
	with := firstByte()
	t.Logf("median %v without, %v with braid", without, with)
	if with > without+5*time.Millisecond {
		t.Errorf("first byte after %v, without braid %v", with, without)
	}
	if c := status(t, r).Connections; c.Convert != 15 || c.TCPFallback != 0 {
		t.Errorf("the agent counted %+v", c)
	}
}
