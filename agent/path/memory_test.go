// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package path

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemory(t *testing.T) {
	var m Memory
	if k := m.Lookup(server4); k != (Known{}) {
		t.Errorf("nothing learned, known %+v", k)
	}
	m.LearnMPTCP(server4, true)
	m.LearnJoins(server4, false)
	if k := m.Lookup(server4); k != (Known{MPTCP: Yes, Joins: No}) {
		t.Errorf("known %+v", k)
	}
	m.LearnMPTCP(server4, false) // what was known of joins is out of date
	if k := m.Lookup(server4); k != (Known{MPTCP: No}) {
		t.Errorf("known %+v", k)
	}
}

func TestJoinsGetAnotherChance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Memory
		m.LearnMPTCP(server4, true)
		m.LearnJoins(server4, false)
		time.Sleep(forget - time.Second)
		if k := m.Lookup(server4); k.Joins != No {
			t.Errorf("forgotten too early: %+v", k)
		}
		time.Sleep(2 * time.Second)
		if k := m.Lookup(server4); k != (Known{MPTCP: Yes}) {
			t.Errorf("known %+v", k)
		}
	})
}

// What stands on the path is remembered: what it did, and that it did nothing.
func TestOnPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Memory
		m.LearnOnPath(server4, "isp", true)
		if k := m.Lookup(server4); k != (Known{OnPath: Yes}) || m.Seen("isp") {
			t.Errorf("the server may have answered itself: known %+v, seen %v", k, m.Seen("isp"))
		}
		m.LearnMPTCP(server4, false) // as another converter says
		m.LearnOnPath(server4, "isp", true)
		if k := m.Lookup(server4); k != (Known{MPTCP: No, OnPath: Yes}) || !m.Seen("isp") || m.Seen("other") {
			t.Errorf("it converts: known %+v, seen %v", k, m.Seen("isp"))
		}
		m.LearnOnPath(server4, "isp", false)
		if k := m.Lookup(server4); k != (Known{MPTCP: No, OnPath: No}) {
			t.Errorf("it converts no more: known %+v", k)
		}
		time.Sleep(forget + time.Second)
		if k := m.Lookup(server4); k != (Known{MPTCP: No}) {
			t.Errorf("it gets another chance: known %+v", k)
		}
	})
}

// A connection is risked ever more rarely where nobody lends an address, and
// freely where somebody does.
func TestTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Memory
		at := func(i byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 443) }
		trial := func(i byte, want bool) {
			t.Helper()
			if got := m.Trial(at(i)); got != want {
				t.Errorf("a trial of %v: %v", at(i), got)
			}
		}
		trial(1, false)
		time.Sleep(trialLeast)
		trial(1, true)
		trial(1, false) // while it is under way
		trial(2, false)
		time.Sleep(trialLeast)
		trial(2, true) // the first has shown nothing
		m.LearnLent(at(2), "", netip.Addr{})
		time.Sleep(trialLeast)
		trial(2, false) // nobody lends it one
		trial(3, true)
		m.LearnLent(at(3), "", netip.Addr{})
		time.Sleep(trialLeast)
		trial(4, false)
		time.Sleep(trialLeast)
		trial(4, true)
		m.LearnLent(at(4), "", server6.Addr())
		trial(4, false) // it is known
		trial(5, true)
		trial(6, true)
		for i := byte(7); i < 20; i++ {
			m.LearnLent(at(i), "", netip.Addr{})
		}
		trial(30, false)
		time.Sleep(trialMost)
		trial(30, true)
		time.Sleep(forget)
		trial(2, true)
	})
}

func TestMemoryIsBounded(t *testing.T) {
	var m Memory
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 443)
	}
	for i := range memorySize + 100 {
		m.LearnMPTCP(at(i), true)
		m.Lookup(at(0)) // used all the time, so kept
	}
	if len(m.servers) != memorySize || m.recent.Len() != memorySize {
		t.Errorf("%d servers, %d in order", len(m.servers), m.recent.Len())
	}
	if m.Lookup(at(0)).MPTCP != Yes || m.Lookup(at(1)).MPTCP != Unknown || m.Lookup(at(memorySize+99)).MPTCP != Yes {
		t.Error("not the least lately used ones are gone")
	}
}

func TestMemorySurvives(t *testing.T) {
	var a, b Memory
	a.LearnMPTCP(server4, true)
	a.LearnMPTCP(server6, true)
	a.LearnJoins(server6, false)
	lent := netip.MustParseAddr("2001:db8:64::c000:250")
	a.LearnOnPath(server4, "isp", true)
	a.LearnLent(server4, "isp", lent)
	var file bytes.Buffer
	if err := a.Save(&file); err != nil {
		t.Fatal(err)
	}
	if err := b.Load(&file); err != nil {
		t.Error(err)
	}
	if b.Lookup(server4) != (Known{MPTCP: Yes, OnPath: Yes, Lends: Yes, Lent: lent}) || b.Lookup(server6) != (Known{MPTCP: Yes, Joins: No}) || len(b.servers) != 2 {
		t.Errorf("loaded %v, %v", b.Lookup(server4), b.Lookup(server6))
	}
	learned := func(m *Memory) time.Time { return m.servers[server6].Value.(*server).joinsAt }
	if lost := learned(&a).Sub(learned(&b)); lost < 0 || lost >= time.Second {
		t.Errorf("joins were learned %v, and are said to have been %v", learned(&a), learned(&b))
	}
	if b.recent.Front().Value.(*server).addr != server6 {
		t.Error("the server that was used last is not the first any more")
	}
}

func TestLoadPassesOverNonsense(t *testing.T) {
	for _, line := range []string{
		"", "nonsense", "192.0.2.1:1 1 0", "192.0.2.1:1 1 0 0 0", // too few and too many fields
		"192.0.2.1 1 0 0", "192.0.2.1:65536 1 0 0", "example.net:1 1 0 0",
		"192.0.2.1:1 3 0 0", "192.0.2.1:1 -1 0 0", "192.0.2.1:1 yes 0 0", "192.0.2.1:1 1 3 0",
		"192.0.2.1:1 1 0 now", "192.0.2.1:1 1 0 0 3 0 0 0 -", "192.0.2.1:1 1 0 0 0 0 1 0 here",
		`{"addr":"192.0.2.1:1","mptcp":1}`,
	} {
		var m Memory
		err := m.Load(strings.NewReader("192.0.2.80:443 1 0 0\n" + line + "\n[2001:db8::80]:443 2 0 0\n"))
		if err == nil || !strings.Contains(err.Error(), "line 2 is no server") || strings.Contains(err.Error(), "line 3") {
			t.Errorf("%q: error %v, want one that names line 2", line, err)
		}
		if len(m.servers) != 2 {
			t.Errorf("%q: %d servers are known, want the two others", line, len(m.servers))
		}
	}
}

func FuzzMemoryLoad(f *testing.F) {
	f.Add("192.0.2.1:1 1 2 1767323045\n")
	f.Fuzz(func(t *testing.T, s string) {
		var m Memory
		m.Load(strings.NewReader(s))
		var b bytes.Buffer
		if err := m.Save(&b); err != nil {
			t.Fatal(err)
		}
	})
}
