// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package extend

import (
	"net/netip"
	"testing"
	"time"
)

// Each server has a port for each WAN, which it keeps as long as it is needed;
// what is not needed any more is given to others, the longest unneeded first.
func TestPorts(t *testing.T) {
	var p ports
	now := time.Unix(1, 0)
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 443)
	}
	seen := make(map[uint16]far)
	for i := range numPorts {
		f := far{at(i / 2), uint32(i%2+1) * unit}
		port, before, fresh, ok := p.get(now.Add(time.Duration(i)), f)
		if !ok || !fresh || before != (far{}) || seen[port] != (far{}) || port < firstPort {
			t.Fatalf("the %d. port: %d, fresh %v, before %v, %v", i, port, fresh, before, ok)
		}
		seen[port] = f
	}
	if port, _, fresh, ok := p.get(now, far{at(0), unit}); !ok || fresh || seen[port] != (far{at(0), unit}) {
		t.Errorf("asked again: %d, fresh %v, %v", port, fresh, ok)
	}
	if _, _, _, ok := p.get(now, far{at(9999), unit}); ok {
		t.Error("there is one although all are needed")
	}
	later := now.Add(2 * resting)
	kept, _, _, _ := p.get(later, far{at(0), unit})
	if what, ok := p.meaning(later, kept+1); !ok || what != seen[kept+1] {
		t.Errorf("%d means %v", kept+1, what)
	}
	port, before, fresh, ok := p.get(later, far{at(9999), unit})
	if !ok || !fresh || before != seen[port] || port == kept || port == kept+1 {
		t.Errorf("another one: %d of %v, fresh %v, %v", port, before, fresh, ok)
	}
	if _, ok := p.of[before]; ok {
		t.Errorf("%v has it still", before)
	}
	for _, none := range []uint16{0, firstPort - 1, firstPort + numPorts, 65535} {
		if what, ok := p.meaning(later, none); ok {
			t.Errorf("%d means %v", none, what)
		}
	}
}

// What a port stood for earlier holds, unless it is at odds with what one does.
func TestSet(t *testing.T) {
	var p ports
	now := time.Unix(1, 0)
	a, b := far{netip.MustParseAddrPort("192.0.2.80:443"), unit}, far{netip.MustParseAddrPort("192.0.2.80:443"), 2 * unit}
	for _, tt := range []struct {
		port uint16
		far  far
		want bool
	}{{firstPort + 7, a, true}, {firstPort + 7, a, true}, {firstPort + 8, a, false}, {firstPort + 7, b, false}, {firstPort - 1, b, false},
		{65535, b, false}, {firstPort, b, true}} {
		if got := p.set(now, tt.port, tt.far); got != tt.want {
			t.Errorf("%d for %v: %v", tt.port, tt.far, got)
		}
	}
	if port, _, fresh, ok := p.get(now, a); port != firstPort+7 || fresh || !ok {
		t.Errorf("port %d, fresh %v", port, fresh)
	}
	if f, ok := p.meaning(now, firstPort); f != b || !ok {
		t.Errorf("it means %v", f)
	}
	if port, _, fresh, _ := p.get(now, far{a.server, 3 * unit}); !fresh || port == firstPort || port == firstPort+7 {
		t.Errorf("port %d is given out", port)
	}
}

func TestIDs(t *testing.T) {
	for i := range uint32(30) {
		if m := (i + 1) * unit; mark(id(m)) != m || id(m) <= idBase {
			t.Errorf("mark %#x has id %d, of mark %#x", m, id(m), mark(id(m)))
		}
	}
}
