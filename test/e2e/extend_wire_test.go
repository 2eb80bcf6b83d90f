// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
	"braid/transport/mptcp"
)

// extends makes a transfer of the telephone's, and waits until it goes on by both
// lines. It fails if anything but that has come of it.
func extends(t *testing.T, r *rig.Rig, host *lab.Node, op traffic.Op) {
	t.Helper()
	counters := func() (n []uint64) {
		for _, name := range []string{"MPCapableSYNACKRX", "MPCapableFallbackSYNACK", "DssFallback", "MPJoinSynAckHMacFailure"} {
			n = append(n, host.MIB("MPTcpExt"+name))
		}
		for _, name := range []string{"MPCapableSYNRX", "MPCapableFallbackACK", "MPJoinAckRx", "MPJoinNoTokenFound", "DssFallback"} {
			n = append(n, r.Server.MIB("MPTcpExt"+name))
		}
		return n
	}
	before := counters()
	stop := extendedBy(t, r, dial4(host, speaker4), op)
	eventually(t, 2*time.Second, func() error {
		if counters()[6] == before[6] {
			return fmt.Errorf("the join has not arrived")
		}
		return nil
	})
	noSockets(t, r)
	t.Log(stop())
	var got []uint64
	for i, n := range counters() {
		got = append(got, n-before[i])
	}
	// The server's count of SYNs is not of connections: one may have come twice.
	if got[4]--; fmt.Sprint(got[:4], got[5:]) != "[1 0 0 0] [0 1 0 0]" || got[4] > 1 {
		t.Errorf("counted at host and server: %v", got)
	}
}

// Whatever the two ends have agreed on.
func TestExtendOptions(t *testing.T) {
	r := start(t, rig.Options{Lab: lines(), UCI: extendUCI})
	serveMPTCP(t, r)
	host := phone(t, r)
	for _, key := range []string{"net.ipv4.tcp_timestamps 0", "net.ipv4.tcp_sack 0", "net.mptcp.checksum_enabled 1", "net.ipv4.tcp_window_scaling 0"} {
		t.Run(key, func(t *testing.T) {
			var name string
			var value int
			if _, err := fmt.Sscan(key, &name, &value); err != nil {
				t.Fatal(err)
			}
			for _, n := range []*lab.Node{host, r.Server} {
				must(t, n.Sysctl(name, fmt.Sprint(value)))
				defer n.Sysctl(name, fmt.Sprint(1-value))
			}
			extends(t, r, host, traffic.Download)
		})
	}
}

// echoes has a node echo what comes to a port, by MPTCP.
func echoes(t *testing.T, n *lab.Node, port uint16) {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(true)
	l, err := n.Listen(t.Context(), lc, "tcp", fmt.Sprintf(":%d", port))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
}

// Data in the SYN (TCP Fast Open) arrives once, and the connection stays the
// host's and the server's, and has both lines.
func TestExtendSYNData(t *testing.T) {
	const port = 9001
	r := start(t, rig.Options{Lab: lines(), UCI: extendUCI})
	serveMPTCP(t, r)
	host := phone(t, r)
	must(t, host.Sysctl("net.ipv4.tcp_fastopen", "5"))        // also without a cookie
	must(t, r.Server.Sysctl("net.ipv4.tcp_fastopen", "1539")) // on all sockets, also without a cookie
	echoes(t, r.Server, port)
	before, total := r.Server.MIB("TcpExtTCPFastOpenPassive"), status(t, r).Connections.Total
	fibre, lte := arrived(r, "fibre"), arrived(r, "lte")
	data := strings.Repeat("braid", 100)
	var c *mptcp.Conn
	must(t, host.Do(func() (err error) {
		c, err = new(mptcp.Dialer).Dial(t.Context(), netip.Addr{}, netip.AddrPortFrom(lab.Server4, port), []byte(data))
		return err
	}))
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	for range 20 {
		if _, err := c.Write([]byte("!")); err != nil {
			t.Fatal(err)
		}
		data += "!"
		got := make([]byte, len(data))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != data {
			t.Fatalf("%q, %v", got, err)
		}
		data = ""
	}
	const chunk = 1e6
	c.SetDeadline(time.Now().Add(time.Minute))
	for sent := uint64(0); ; sent += chunk {
		f, l := arrived(r, "fibre")-fibre, arrived(r, "lte")-lte
		if f > chunk && l > chunk/2 {
			t.Logf("%d bytes over fibre, %d over lte", f, l)
			break
		}
		if sent > 30*chunk || f+l < sent {
			t.Fatalf("of %d bytes %d came over fibre, %d over lte", sent, f, l)
		}
		go c.Write(make([]byte, chunk))
		if n, err := io.CopyN(io.Discard, c, chunk); err != nil {
			t.Fatalf("%d of %d bytes more: %v", n, int(chunk), err)
		}
	}
	if n := r.Server.MIB("TcpExtTCPFastOpenPassive") - before; n != 1 || !c.MPTCP || status(t, r).Connections.Total != total {
		t.Errorf("%d SYNs with data were taken, MPTCP %v", n, c.MPTCP)
	}
	noSockets(t, r)
}

// A server behind a balancer that does not say so: the host's join comes to
// another machine. The connection loses nothing, and the host is not told for ever.
func TestExtendBalancer(t *testing.T) {
	r := start(t, rig.Options{Lab: lines(), UCI: extendUCI})
	serveMPTCP(t, r)
	twin := balance(t, r, speaker, fmt.Sprintf("!= %v", r.WAN("fibre").Gateway4.Addr()))
	host := phone(t, r)
	stop := background(t, dial4(host, speaker4))
	time.Sleep(6 * time.Second)
	noSockets(t, r)
	rep := stop()
	t.Log(rep)
	if n := twin.MIB("MPTcpExtMPJoinNoTokenFound"); n < 1 || n > 4 {
		t.Errorf("%d joins have come to the other machine", n)
	}
	if n := r.Server.MIB("MPTcpExtMPJoinSynRx"); n != 0 || host.MIB("MPTcpExtDssFallback") != 0 {
		t.Errorf("%d joins", n)
	}
	if rep.Rate() < 35e6 || rep.Stall > time.Second {
		t.Errorf("it was hurt: %v", rep)
	}
}

// A second line that has only IPv6 is added to connections to IPv6 servers, and
// not announced to those that it cannot reach.
func TestExtendSixOnly(t *testing.T) {
	o := sixOnly()
	o.Accesses[0].V6 = true
	r := start(t, rig.Options{Lab: o, UCI: extendUCI})
	serveMPTCP(t, r)
	host := phone(t, r)
	before, heard, joins := status(t, r).Connections.Extended, host.MIB("MPTcpExtAddAddr"), r.Server.MIB("MPTcpExtMPJoinSynRx")
	lte := arrived(r, "lte")
	transfer(t, dial4(host, speaker4), traffic.Download, 8e6)
	if n, m := status(t, r).Connections.Extended-before, arrived(r, "lte")-lte; n != 0 || m > 1e5 ||
		host.MIB("MPTcpExtAddAddr") != heard || r.Server.MIB("MPTcpExtMPJoinSynRx") != joins {
		t.Errorf("%d extended, %d bytes over lte", n, m)
	}
	lte, fibre := arrived(r, "lte"), arrived(r, "fibre")
	transfer(t, dial6(host, speaker6), traffic.Download, 30e6)
	lte, fibre = arrived(r, "lte")-lte, arrived(r, "fibre")-fibre
	noSockets(t, r)
	if n := status(t, r).Connections.Extended - before; n != 1 || lte < 3e6 || fibre < 5e6 || r.Server.MIB("MPTcpExtMPJoinSynRx")-joins != 1 {
		t.Errorf("%d extended, %d bytes over fibre, %d over lte", n, fibre, lte)
	}
}

// Five hundred connections at once: each has both lines, is listed, and the
// gateway has no socket of them; what it remembers ends with them.
func TestExtendMany(t *testing.T) {
	const many, port = 500, 9000
	r := start(t, rig.Options{Lab: lines(), UCI: extendUCI})
	serveMPTCP(t, r)
	echoes(t, r.Server, port)
	host := phone(t, r)
	before := r.Server.MIB("MPTcpExtMPJoinAckRx")
	usage, err := r.Agent.Usage()
	must(t, err)
	conns := make([]*mptcp.Conn, many)
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			err := host.Do(func() (err error) {
				conns[i], err = new(mptcp.Dialer).Dial(t.Context(), netip.Addr{}, netip.AddrPortFrom(lab.Server4, port), nil)
				return err
			})
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
				return
			}
			conns[i].SetDeadline(time.Now().Add(2 * time.Minute))
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	eventually(t, 15*time.Second, func() error {
		for _, c := range conns {
			c.Write([]byte("x"))
		}
		for i, c := range conns {
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
		if n := r.Server.MIB("MPTcpExtMPJoinAckRx") - before; n != many {
			return fmt.Errorf("%d of %d joins; the host has heard of %d addresses and asked for %d; %+v", n, many,
				host.MIB("MPTcpExtAddAddr"), host.MIB("MPTcpExtMPJoinSynTx"), status(t, r).Connections)
		}
		return nil
	})
	noSockets(t, r)
	eventually(t, 10*time.Second, func() error { // the server knows before the agent does
		if s, list := status(t, r).Connections, listed(t, r); s.Extended != many || s.Total != 0 || len(list) != many {
			return fmt.Errorf("%d are listed, counted: %+v", len(list), s)
		}
		return nil
	})
	after, err := r.Agent.Usage()
	must(t, err)
	t.Logf("%d connections: %v of CPU, %d bytes of memory more", many, after.CPU-usage.CPU, int64(after.Anonymous)-int64(usage.Anonymous))
	for _, c := range conns {
		c.Close()
	}
	// What the filter had no room to show is asked for, each in ten seconds.
	eventually(t, 20*time.Second, func() error {
		if list := listed(t, r); len(list) != 0 {
			return fmt.Errorf("%d are listed", len(list))
		}
		if n := strings.Count(sh(t, r.Gateway, "nft list set inet braid extend_known_ip"), "expires"); n != 0 {
			return fmt.Errorf("%d flows are in the filter's set", n)
		}
		return nil
	})
}
