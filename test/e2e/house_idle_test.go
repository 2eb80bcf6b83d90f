// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
)

// idlers opens connections of the LAN host's that have said something and say
// nothing more; those of the server are listed beside.
func idlers(t *testing.T, r *rig.Rig, n int) (host, server []net.Conn) {
	t.Helper()
	l := listen(t, r.Server, rawPort)
	for range n {
		h, err := dial(t, r.Host(), lab.Server4, rawPort)
		must(t, err)
		s, err := l.Accept()
		must(t, err)
		t.Cleanup(func() { s.Close() })
		h.SetDeadline(time.Time{})
		host, server = append(host, h), append(server, s)
		says(t, h, s)
		says(t, s, h)
	}
	return host, server
}

// says has one end say something that the other hears soon.
func says(t *testing.T, from, to net.Conn) {
	t.Helper()
	const word = "still there?"
	_, err := from.Write([]byte(word))
	must(t, err)
	to.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(word))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != word {
		t.Fatalf("%q arrives as %q: %v", word, got, err)
	}
	to.SetReadDeadline(time.Time{})
}

var keepAliveTimer = regexp.MustCompile(`timer:\(keepalive,(?:(\d+)min)?(?:(\d+)(?:\.\d+)?sec)?`)

// keepAlives are, for each TCP connection of the gateway's that a filter of ss(8)
// selects, when the kernel sends its next keepalive; 0: never.
func keepAlives(t *testing.T, r *rig.Rig, filter string) (all []time.Duration) {
	t.Helper()
	for line := range strings.Lines(sh(t, r.Gateway, "ss -tnoH state established '"+filter+"'")) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		var next time.Duration
		if m := keepAliveTimer.FindStringSubmatch(line); m != nil {
			minutes, _ := strconv.Atoi(m[1])
			seconds, _ := strconv.Atoi(m[2])
			next = time.Duration(minutes)*time.Minute + time.Duration(seconds)*time.Second
		}
		all = append(all, next)
	}
	return all
}

// lteAs is the default configuration with another role for the LTE.
func lteAs(role string) string {
	return strings.Replace(rig.DefaultUCI, "option role 'bond'", "option role '"+role+"'", 1)
}

// overLTE counts the bytes that the LTE carries in both directions, in a while.
func overLTE(r *rig.Rig, while func()) uint64 {
	bytes := func() uint64 {
		l := r.Link("lte")
		return l.AB().Counters().Bytes + l.BA().Counters().Bytes
	}
	before := bytes()
	while()
	return bytes() - before
}

// Idle connections cost a backup by the byte nothing, and yet it takes over
// what is open when the fibre dies. The while is short: what tells of a long one
// is when the kernel would send the next keepalive.
func TestHouseIdleBackup(t *testing.T) {
	const (
		count = 50
		while = 15 * time.Second
		extra = 10_000 // bytes
	)
	r := start(t, rig.Options{UCI: lteAs("backup")})
	time.Sleep(5 * time.Second) // new lines are probed more often
	none := overLTE(r, func() { time.Sleep(while) })
	var host, server []net.Conn
	some := overLTE(r, func() {
		end := time.After(while)
		host, server = idlers(t, r, count)
		<-end
	})
	t.Logf("LTE carries %d bytes without connections, %d with %d", none, some, count)
	if some > none+extra {
		t.Errorf("%d idle connections cost %d bytes on the LTE", count, some-none)
	}
	if n := len(keepAlives(t, r, "src 100.64.0.2")); n != 0 {
		t.Errorf("%d connections have a subflow over the LTE", n)
	}
	r.Link("fibre").Blackhole(true)
	for i := range host {
		says(t, host[i], server[i])
		says(t, server[i], host[i])
	}
}

// Keepalives are sent where a connection has one line only, in time for the
// NATs of carriers, and nowhere else: not on standby, not towards the LAN.
func TestHouseIdleKeepAlive(t *testing.T) {
	const forgets = 300 * time.Second // NATs of carriers
	only := lab.Options{Accesses: []lab.Access{lab.LTE(link.Spec{}, link.Spec{})}}
	for name, h := range map[string]struct {
		o     rig.Options
		alone bool
	}{
		"LTE alone":         {rig.Options{Lab: only, UCI: homeUCI("lte; device lte; kind cellular")}, true},
		"fibre and backup":  {rig.Options{UCI: lteAs("backup")}, true},
		"fibre and bond":    {rig.Options{UCI: lteAs("bond")}, false},
		"fibre and standby": {rig.Options{UCI: lteAs("overflow")}, false},
		"two sticks": {rig.Options{UCI: homeUCI("fibre; device fibre; kind cellular; role primary",
			"lte; device lte; kind cellular; role bond")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, h.o)
			idlers(t, r, 3)
			check := func(alone bool) {
				t.Helper()
				eventually(t, 3*time.Second, func() error {
					all := keepAlives(t, r, "dst 192.0.2.10")
					if len(all) < 3 {
						return fmt.Errorf("%d subflows", len(all))
					}
					for _, next := range all {
						if alone != (next > 0) || next >= forgets || alone && next < forgets/2 {
							return fmt.Errorf("keepalives in %v", all)
						}
					}
					return nil
				})
				for _, next := range keepAlives(t, r, "dst 192.168.1.0/24") {
					if next != 0 {
						t.Errorf("a keepalive towards the LAN in %v", next)
					}
				}
			}
			check(h.alone)
			if name == "fibre and bond" { // what is open follows
				must(t, r.WAN("lte").SetDown())
				working(t, r, "lte", false)
				check(true)
			}
		})
	}
}

// Idle connections outlive that all lines are away, be it that they swallow all
// or that they are unplugged. For how long the kernel bears it is a setting, and
// what the test waits for is only long enough for the agent to have acted.
func TestHouseIdleWithoutLines(t *testing.T) {
	const five = 5 * 60 // seconds
	r := start(t, rig.Options{})
	host, server := idlers(t, r, 3)
	if n, err := strconv.Atoi(sh(t, r.Gateway, "cat /proc/sys/net/mptcp/close_timeout")); err != nil || n <= five {
		t.Errorf("a connection without subflows ends after %d s, %v", n, err)
	}
	both := func(do func(name string)) {
		for _, name := range bothWANs {
			do(name)
		}
	}
	for _, way := range []struct {
		name    string
		away    func(name string)
		returns func(name string)
	}{
		{"black hole", func(n string) { r.Link(n).Blackhole(true) }, func(n string) { r.Link(n).Blackhole(false) }},
		{"unplugged", func(n string) { must(t, r.WAN(n).SetDown()) }, func(n string) { must(t, r.WAN(n).SetUp()) }},
	} {
		both(way.away)
		time.Sleep(6 * time.Second)
		both(way.returns)
		began := time.Now()
		for i := range host {
			says(t, host[i], server[i])
			says(t, server[i], host[i])
		}
		t.Logf("%s: back after %v", way.name, time.Since(began))
	}
}

// A backup that has no subflows while there is little to lose takes a download
// over as soon as one that has always stood by: the bound is that of
// TestFailover.
func TestHouseBackupTakesOver(t *testing.T) {
	const bound = 1200 * time.Millisecond
	for _, kind := range []string{"cellular", "fixed"} {
		for name, kill := range map[string]func(*rig.Rig){
			"black hole": func(r *rig.Rig) { r.Link("fibre").Blackhole(true) },
			"link down":  func(r *rig.Rig) { must(t, r.WAN("fibre").SetDown()) },
		} {
			t.Run(kind+", "+name, func(t *testing.T) {
				r := start(t, rig.Options{Lab: lines(), UCI: strings.Replace(lteAs("backup"), "'cellular'", "'"+kind+"'", 1)})
				transfer(t, r.FromHost(lab.Server4), traffic.Download, 1e4)
				rep := during(t, r, traffic.Download, 25e6, func() {
					if n := len(keepAlives(t, r, "src 100.64.0.2")); n != 1 {
						t.Errorf("%d subflows stand by", n)
					}
					kill(r)
				})
				if rep.Stall > bound {
					t.Errorf("stalled for %v", rep.Stall)
				}
			})
		}
	}
}
