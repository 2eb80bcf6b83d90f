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
	if k := m.Lookup(server4); k != (Known{Yes, No}) {
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
		time.Sleep(joinsForget - time.Second)
		if k := m.Lookup(server4); k.Joins != No {
			t.Errorf("forgotten too early: %+v", k)
		}
		time.Sleep(2 * time.Second)
		if k := m.Lookup(server4); k != (Known{MPTCP: Yes}) {
			t.Errorf("known %+v", k)
		}
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
	var file bytes.Buffer
	if err := a.Save(&file); err != nil {
		t.Fatal(err)
	}
	text := file.String() + "nonsense\n{\"addr\":\"192.0.2.1:1\",\"mptcp\":9}\n"
	err := b.Load(strings.NewReader(text))
	if err == nil || !strings.Contains(err.Error(), "line 3") || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("error %v", err)
	}
	if b.Lookup(server4) != (Known{MPTCP: Yes}) || b.Lookup(server6) != (Known{Yes, No}) || len(b.servers) != 2 {
		t.Errorf("loaded %v, %v", b.Lookup(server4), b.Lookup(server6))
	}
}

func FuzzMemoryLoad(f *testing.F) {
	f.Add("{\"addr\":\"192.0.2.1:1\",\"mptcp\":1}\n")
	f.Fuzz(func(t *testing.T, s string) {
		var m Memory
		m.Load(strings.NewReader(s))
		var b bytes.Buffer
		if err := m.Save(&b); err != nil {
			t.Fatal(err)
		}
	})
}
