// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"braid/test/netns"
	"braid/transport/mptcp"
	"braid/transport/proof"
)

// soakTime is for how long TestSoak runs, and soakConnections how many live at a
// time, unless BRAID_SOAK and BRAID_SOAK_CONNECTIONS say otherwise.
const (
	soakTime        = 60 * time.Second
	soakConnections = 200
)

// For a minute, or longer: connections that live for some seconds each, over two
// lines that go dark in turn, and a third subflow that comes and goes; meanwhile
// the configuration is read anew each second, and each half minute the converter
// is restarted, or a successor takes over. Every byte is checked, no connection
// fails, but for the kernel (6.18), which does not send the end of one in ten
// thousand, and what the converter takes stays the same: in the end nothing is left,
// no predecessor, no descriptor, no goroutine.
func TestSoak(t *testing.T) {
	length, live := soakTime, soakConnections
	var err error
	if text := os.Getenv("BRAID_SOAK"); text != "" {
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("BRAID_SOAK_CONNECTIONS"); text != "" {
		if live, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	s := newStreet(t)
	p := newPlace(t, "metrics = \"\"\ndrain = 50\nannounce = [\"198.18.1.1\"]\n[[client]]\nname = \"a\"\nkey = \""+shared+shared+"\"\npending = 4096\n")
	m := p.manage()
	m.in, m.level = s.far.Do, "info"
	m.start()
	secret, _ := hex.DecodeString(shared + shared)
	known := proof.NewClient(secret)
	var homes []*gateway
	for _, from := range s.homes {
		homes = append(homes, &gateway{from: from, at: s.converter, proof: known})
		if err := homes[len(homes)-1].once(t.Context(), s.server); err != nil {
			t.Fatal(err)
		}
	}
	m.wait("they have closed", func() bool { return status(t, p).Connections == 0 })
	atRest := m.usage()

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var running sync.WaitGroup
	var connections, echoed, failed, unended, slowest atomic.Int64
	for i := range live {
		running.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				l := life{lines: []*gateway{homes[n%len(homes)], homes[(n+1)%len(homes)]}, server: s.server}
				err := l.live(ctx)
				connections.Add(1)
				echoed.Add(l.echoed)
				for old := slowest.Load(); int64(l.slowest) > old && !slowest.CompareAndSwap(old, int64(l.slowest)); old = slowest.Load() {
				}
				switch {
				case errors.Is(err, errUnended):
					unended.Add(1)
				case err != nil && failed.Add(1) < 10:
					t.Errorf("connection: %v", err)
				}
			}
		})
	}
	running.Go(func() { s.flap(ctx) })
	running.Go(func() { s.rejoin(ctx) })

	idle := idleTicks()
	var samples []footprint
	joined, restarts, handovers := 0, 0, 0
	began := time.Now()
	// A restart that takes long is no reason to hurry afterwards: who is asked for
	// a proof by one converter and at once by the next has to give up.
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for tick := 1; ctx.Err() == nil; tick++ {
		<-ticker.C
		switch tick % 60 {
		case 20:
			old := m.main()
			m.signal(syscall.SIGUSR2)
			m.wait("it has handed over", func() bool { return m.main() != old })
			handovers++
		case 50:
			m.restart()
			restarts++
		case 15, 45: // longest after that
			samples = append(samples, m.usage())
			st := status(t, p)
			joined = max(joined, st.Clients[0].Subflows-st.Clients[0].Open)
			t.Logf("after %v: %+v, %d connections, %d without MPTCP, %d shed", time.Since(began).Round(time.Second), samples[len(samples)-1],
				st.Connections, st.AcceptedTCP, st.Shed)
		default:
			m.signal(syscall.SIGHUP)
		}
	}
	busy := 100 - 100*float64(idleTicks()-idle)/100/time.Since(began).Seconds()/float64(processors())
	running.Wait()
	t.Logf("%d connections, %d bytes echoed, %d failed, %d did not end; %d restarts, %d handovers, %d times a line was dark, %d times an endpoint went; the longest an echo took %v; at most %d further subflows at a time; processors busy for %.1f %%",
		connections.Load(), echoed.Load(), failed.Load(), unended.Load(), restarts, handovers, s.dark, s.rejoined, time.Duration(slowest.Load()).Round(time.Millisecond), joined, busy)
	if n := unended.Load(); n > 2+connections.Load()/2000 {
		t.Errorf("%d connections did not end", n)
	}
	if joined < live/2 {
		t.Errorf("at most %d further subflows were there at a time", joined)
	}
	flat(t, samples)
	// Those who have come during a restart find that their peer has left.
	m.wait("all have closed", func() bool {
		u := m.usage()
		return u.files <= atRest.files+8 && u.goroutines <= atRest.goroutines+8
	})
	// One whose client's end has got lost asks for it a minute after another.
	deadline := time.Now().Add(3 * patience)
	for _, pid := range m.pids {
		for pid != m.main() && !gone(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("predecessor %d does not end", pid)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	after := m.usage()
	t.Logf("at rest %+v, in the end %+v", atRest, after)
	if after.memory > 4*atRest.memory+32<<20 {
		t.Errorf("in the end %+v, before %+v", after, atRest)
	}
}

// Who connects while a converter that is restarted drains waits for the next
// one, over lines whose far address is announced.
func TestRestartWhileWaiting(t *testing.T) {
	s := newStreet(t)
	sysctl(t, "net/ipv4/tcp_fastopen", "0")
	p := newPlace(t, "metrics = \"\"\ndrain = 2\nannounce = [\"198.18.1.1\"]\n[[client]]\nname = \"a\"\nkey = \""+shared+shared+"\"\n")
	m := p.manage()
	m.in, m.level = s.far.Do, "info"
	m.start()
	secret, _ := hex.DecodeString(shared + shared)
	g := &gateway{from: s.homes[0], at: s.converter, proof: proof.NewClient(secret)}
	if err := g.once(t.Context(), s.server); err != nil {
		t.Fatal(err)
	}
	drained, err := g.open(t.Context(), s.server)
	if err != nil {
		t.Fatal(err)
	}
	defer drained.Close()
	m.signal(syscall.SIGTERM)
	m.wait("it accepts no more", func() bool {
		b, _ := os.ReadFile(m.log.Name())
		return bytes.Contains(b, []byte("msg=draining"))
	})
	var waiting sync.WaitGroup
	for range 10 {
		waiting.Go(func() {
			if err := g.once(t.Context(), s.server); err != nil {
				t.Errorf("who has waited: %v", err)
			}
		})
	}
	m.wait("they wait", func() bool {
		n, err := mptcp.Waiting(m.files[0])
		return err == nil && n == 10
	})
	m.wait("it has ended", m.ended)
	m.start()
	waiting.Wait()
}

// flat finds fault with samples that grow: those of the last third with those of
// the first.
func flat(t *testing.T, samples []footprint) {
	third := len(samples) / 3
	if third == 0 {
		return
	}
	var first, last footprint
	for i := range third {
		a, b := samples[i], samples[len(samples)-1-i]
		first = footprint{first.files + a.files/third, first.goroutines + a.goroutines/third, first.memory + a.memory/third}
		last = footprint{last.files + b.files/third, last.goroutines + b.goroutines/third, last.memory + b.memory/third}
	}
	t.Logf("on average at first %+v, at last %+v", first, last)
	grown := func(a, b, slack int) bool { return b > a+a/4+slack }
	if grown(first.files, last.files, 200) || grown(first.goroutines, last.goroutines, 200) || grown(first.memory, last.memory, 8<<20) {
		t.Errorf("at first %+v, at last %+v", first, last)
	}
}

// street is a converter in a network of its own and a home with two lines to it;
// the servers are there, too:
//
//	198.18.1.2 -- line0 -- 198.18.1.1
//	198.18.2.2 -- line1 -- 198.18.2.1 converter
//	198.18.3.80 - line2 -- 198.18.3.1
type street struct {
	t         *testing.T
	far       *netns.Namespace
	converter netip.AddrPort
	homes     []netip.Addr
	server    string

	dark, rejoined int // times
}

func newStreet(t *testing.T) *street {
	far, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	s := &street{t: t, far: far, converter: netip.MustParseAddrPort("198.18.1.1:5124"),
		homes: []netip.Addr{netip.MustParseAddr("198.18.1.2"), netip.MustParseAddr("198.18.2.2")}}
	for i, line := range []struct{ here, there []string }{
		{[]string{"198.18.1.2/24"}, []string{"198.18.1.1/24"}},
		{[]string{"198.18.2.2/24", "198.18.2.3/24"}, []string{"198.18.2.1/24"}},
		{[]string{"198.18.3.80/24"}, []string{"198.18.3.1/24"}},
	} {
		name := fmt.Sprint("line", i)
		if err := far.Line(name, line.here, line.there); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.run("ip", "link", "del", name) })
	}
	for _, undo := range []string{"rule del from 198.18.2.0/24 lookup 72", "mptcp endpoint flush", "mptcp limits set subflows 2 add_addr_accepted 0"} {
		t.Cleanup(func() { s.run("ip", strings.Fields(undo)...) })
	}
	for _, do := range []string{
		"rule add from 198.18.2.0/24 lookup 72", "route add default via 198.18.2.1 dev line1 table 72",
		"mptcp limits set subflows 4 add_addr_accepted 4",
		"mptcp endpoint add 198.18.1.2 id 91 dev line0 subflow", "mptcp endpoint add 198.18.2.2 id 92 dev line1 subflow",
	} {
		s.run("ip", strings.Fields(do)...)
	}
	// As the packages have it; many connections follow one another here, too.
	settings := map[string]string{"net/ipv4/ip_local_port_range": "10240 65535", "net/ipv4/tcp_tw_reuse": "1", "net/ipv4/tcp_fastopen": "3",
		"net/mptcp/blackhole_timeout": "0"}
	for key, value := range settings {
		sysctl(t, key, value)
	}
	err = far.Do(func() error {
		for key, value := range settings {
			if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "198.18.3.80:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serveEcho(l)
	s.server = l.Addr().String()
	return s
}

func (s *street) run(name string, args ...string) {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		s.t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
}

// flap has one line after the other go dark for three seconds, with three in
// between, in turn so that packets vanish and so that the converter's end is down.
func (s *street) flap(ctx context.Context) {
	pause := func() {
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
	}
	in := func(name string, args ...string) {
		s.far.Do(func() error { s.run(name, args...); return nil })
	}
	for pause(); ctx.Err() == nil; pause() {
		line := fmt.Sprintf("line%d-far", s.dark%2)
		if s.dark/2%2 == 0 {
			in("nft", fmt.Sprintf(`table inet dark {
				chain in { type filter hook prerouting priority -300; iifname %q drop; }
				chain out { type filter hook postrouting priority -300; oifname %q drop; }
			}`, line, line))
			pause()
			in("nft", "delete table inet dark")
		} else {
			in("ip", "link", "set", line, "down")
			pause()
			in("ip", "link", "set", line, "up")
		}
		s.dark++
	}
}

// rejoin has each connection get one more subflow, and lose it, once in ten
// seconds.
func (s *street) rejoin(ctx context.Context) {
	for ctx.Err() == nil {
		s.run("ip", strings.Fields("mptcp endpoint add 198.18.2.3 id 99 dev line1 subflow")...)
		time.Sleep(5 * time.Second)
		s.run("ip", strings.Fields("mptcp endpoint del id 99")...)
		s.rejoined++
		time.Sleep(5 * time.Second)
	}
}

// life is that of one connection.
type life struct {
	lines   []*gateway // the first one is tried first
	server  string
	echoed  int64 // bytes that came back as they were sent
	slowest time.Duration
}

// live keeps a connection busy for some seconds.
func (l *life) live(ctx context.Context) error {
	c, err := l.lines[0].open(ctx, l.server)
	if errors.Is(err, syscall.EHOSTUNREACH) { // it is dark
		c, err = l.lines[1].open(ctx, l.server)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = nil
		}
		return err
	}
	defer c.Close()
	end := time.Now().Add(time.Second + rand.N(8*time.Second))
	noise := rand.NewChaCha8([32]byte{byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())})
	sent, got := make([]byte, 16<<10), make([]byte, 16<<10)
	for time.Now().Before(end) && ctx.Err() == nil {
		n := 1 + rand.IntN(len(sent))
		noise.Read(sent[:n])
		began := time.Now()
		c.SetDeadline(began.Add(patience))
		if err := l.echo(c, sent[:n], got[:n]); err != nil {
			return fmt.Errorf("an echo, after %v: %w", time.Since(began), err)
		}
		l.slowest = max(l.slowest, time.Since(began))
		l.echoed += int64(n)
		time.Sleep(rand.N(400 * time.Millisecond))
	}
	c.CloseWrite()
	rest, err := io.ReadAll(c)
	if len(rest) != 0 {
		return fmt.Errorf("at the end: %d bytes more, %v", len(rest), err)
	}
	if err != nil {
		return fmt.Errorf("%w: %v", errUnended, err)
	}
	return nil
}

// errUnended is for a connection of which all has come but the end.
var errUnended = errors.New("at the end")

func (l *life) echo(c *mptcp.Conn, sent, got []byte) error {
	if _, err := c.Write(sent); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(sent, got) {
		return fmt.Errorf("%d bytes came back as others", len(sent))
	}
	return nil
}

// footprint is what the converter takes.
type footprint struct {
	files      int
	goroutines int
	memory     int // bytes
}

func (m *manager) usage() footprint {
	u := footprintOf(m.main())
	u.goroutines = status(m.place.t, m.place).Goroutines
	return u
}

// footprintOf is that of a process, but for its goroutines.
func footprintOf(pid int) (u footprint) {
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.files = len(files)
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var size, resident int
	fmt.Sscan(string(b), &size, &resident)
	u.memory = resident * os.Getpagesize()
	return u
}

// main is the main process.
func (m *manager) main() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pid
}

// idleTicks is for how long all processors together have had nothing to do, in
// hundredths of a second.
func idleTicks() int {
	b, _ := os.ReadFile("/proc/stat")
	ticks, _ := strconv.Atoi(strings.Fields(string(b))[4])
	return ticks
}

// processors is how many the machine has.
func processors() (n int) {
	b, _ := os.ReadFile("/proc/stat")
	return strings.Count(string(b), "\ncpu")
}
