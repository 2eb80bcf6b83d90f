// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package path

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"braid/agent/config"
)

var mcp = []Converter{{Name: "mcp"}}

// holds says which fault the memory holds against a converter.
func holds(v *verdicts, server netip.Addr) Fault {
	for _, x := range v.Verdicts(server, mcp) {
		return x.Fault
	}
	return FaultNone
}

func TestVerdictsHoldForMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v verdicts
		server := server4.Addr()
		for _, lasts := range []time.Duration{verdictTime, 2 * verdictTime, 4 * verdictTime, verdictMax, verdictMax} {
			v.Blame("mcp", server, FaultSilent)
			v.Blame("mcp", server, FaultRefused) // at the same time
			time.Sleep(lasts - time.Second)
			if f := holds(&v, server); f != FaultRefused {
				t.Errorf("fault %v before %v have passed", f, lasts)
			}
			time.Sleep(2 * time.Second)
			if f := holds(&v, server); f != FaultNone {
				t.Errorf("fault %v after %v", f, lasts)
			}
		}
		time.Sleep(2 * verdictMax)
		v.Blame("mcp", server, FaultSilent)
		time.Sleep(verdictTime + time.Second)
		if f := holds(&v, server); f != FaultNone {
			t.Errorf("fault %v: a verdict of long ago has made it last", f)
		}
	})
}

func TestVerdictsAreAboutPairs(t *testing.T) {
	var v verdicts
	v.Blame("mcp", server4.Addr(), FaultRefused)
	both := []Converter{{Name: "mcp"}, {Name: "second"}}
	if vs := v.Verdicts(server4.Addr(), both); len(vs) != 1 || vs[0] != (Verdict{"mcp", FaultRefused}) {
		t.Errorf("verdicts %v", vs)
	}
	if vs := v.Verdicts(netip.MustParseAddr("192.0.2.81"), both); len(vs) != 0 {
		t.Errorf("verdicts on another server: %v", vs)
	}
	v.Acquit("mcp", server4.Addr())
	if vs := v.Verdicts(server4.Addr(), both); len(vs) != 0 {
		t.Errorf("verdicts after it was reached: %v", vs)
	}
	v.Blame("mcp", server4.Addr(), FaultRefused)
	v.Blame("second", server4.Addr(), FaultRefused)
	v.Forget("mcp")
	if vs := v.Verdicts(server4.Addr(), both); len(vs) != 1 || vs[0].Converter != "second" || v.Reaches("mcp", false) != Unknown {
		t.Errorf("verdicts without the first: %v", vs)
	}
}

func TestVerdictsAreBounded(t *testing.T) {
	var v verdicts
	for i := range 3 * verdictPairs {
		v.Blame("mcp", netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), FaultSilent)
	}
	if len(v.pairs) > verdictPairs {
		t.Errorf("%d pairs", len(v.pairs))
	}
}

// A converter that does not say what it reaches shows it.
func TestFamilyIsLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v verdicts
		at := func(i byte) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: i})
		}
		fresh := at(99)
		v.Blame("mcp", at(1), FaultNoRoute)
		v.Blame("mcp", at(1), FaultNoRoute) // the same server proves nothing new
		v.Blame("mcp", at(2), FaultNoRoute)
		v.Blame("mcp", at(3), FaultRefused)
		if f := holds(&v, fresh); f != FaultNone || v.Reaches("mcp", true) != Unknown {
			t.Errorf("fault %v by two servers", f)
		}
		v.Blame("mcp", at(4), FaultNoRoute)
		if f := holds(&v, fresh); f != FaultFamily || v.Reaches("mcp", true) != No {
			t.Errorf("fault %v by three servers", f)
		}
		if v.Reaches("mcp", false) != Unknown || holds(&v, server4.Addr()) != FaultNone || v.Reaches("other", true) != Unknown {
			t.Error("more is concluded than was seen")
		}
		time.Sleep(verdictTime)
		if v.Reaches("mcp", true) != Unknown {
			t.Error("it is never tried again")
		}
		v.Blame("mcp", at(1), FaultNoRoute) // so one is enough
		if v.Reaches("mcp", true) != No {
			t.Error("what was known is forgotten")
		}
		v.Acquit("mcp", at(5))
		if v.Reaches("mcp", true) != Yes {
			t.Error("a server was reached")
		}
		v.Blame("mcp", at(1), FaultNoRoute)
		if v.Reaches("mcp", true) != Unknown {
			t.Error("one server of many")
		}
	})
}

// What verdicts make of decisions.
func TestDecideByVerdict(t *testing.T) {
	up := func(name string) Converter {
		return Converter{Name: name, Addrs: []netip.AddrPort{mcp4}, State: ConverterUp}
	}
	only4, full := up("mcp"), up("mcp")
	only4.IPv6, full.State = No, ConverterFull
	refuses := []Verdict{{"mcp", FaultRefused}}
	lost := []Verdict{{"mcp", FaultNoRoute}}
	direct, reject := config.FallbackDirect, config.FallbackReject
	for _, tt := range []struct {
		name       string
		converters []Converter
		dest       netip.AddrPort
		path       config.Path
		fallback   config.Fallback
		known      Known
		verdicts   []Verdict
		want       string
	}{
		{"the server refuses the converter", []Converter{up("mcp")}, server4, config.PathAuto, direct, Known{}, refuses,
			"direct[fibre]: the server refuses converter mcp"},
		{"and speaks MPTCP", []Converter{up("mcp")}, server4, config.PathAuto, direct, Known{MPTCP: Yes}, refuses,
			"direct[fibre]: the server speaks MPTCP, and every WAN reaches it"},
		{"and takes no joins", []Converter{up("mcp")}, server4, config.PathAuto, direct, Known{MPTCP: Yes, Joins: No}, refuses,
			"direct[fibre]: the server refuses converter mcp"},
		{"another converter reaches it", []Converter{up("mcp"), up("second")}, server4, config.PathAuto, direct, Known{}, refuses,
			"convert[fibre], direct[fibre]: it is not known yet whether the server speaks MPTCP"},
		{"a rule wants the converter", []Converter{up("mcp")}, server4, config.PathConvert, direct, Known{}, refuses,
			"convert[fibre], direct[fibre]: a rule says so"},
		{"a rule wants it, and it has no way", []Converter{up("mcp")}, server4, config.PathConvert, direct, Known{}, lost,
			"direct[fibre]: converter mcp has no route to the server"},
		{"a rule wants none", []Converter{up("mcp")}, server4, config.PathDirect, direct, Known{}, refuses,
			"direct[fibre]: a rule says so"},
		{"direct is not wanted", []Converter{up("mcp")}, server4, config.PathAuto, reject, Known{}, refuses,
			"convert[fibre]: the server refuses converter mcp"},
		{"no IPv6", []Converter{only4}, server6, config.PathAuto, direct, Known{}, nil,
			"direct[fibre]: converter mcp does not reach the server's address family"},
		{"no IPv6, but IPv4", []Converter{only4}, server4, config.PathAuto, direct, Known{}, nil,
			"convert[fibre], direct[fibre]: it is not known yet whether the server speaks MPTCP"},
		{"no IPv6, and direct is not wanted", []Converter{only4}, server6, config.PathAuto, reject, Known{}, nil,
			"reject: converter mcp does not reach the server's address family, and globals.fallback is reject"},
		{"no IPv6, and a rule wants the converter", []Converter{only4}, server6, config.PathConvert, direct, Known{}, nil,
			"direct[fibre]: converter mcp does not reach the server's address family"},
		{"full", []Converter{full}, server4, config.PathAuto, direct, Known{}, nil,
			"direct[fibre]: no converter has room for more connections"},
		{"full, and another has room", []Converter{full, up("second")}, server4, config.PathAuto, direct, Known{}, nil,
			"convert[fibre], direct[fibre]: it is not known yet whether the server speaks MPTCP"},
		{"full, and direct is not wanted", []Converter{full}, server4, config.PathAuto, reject, Known{}, nil,
			"convert[fibre]: no converter has room for more connections"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := New(wan("fibre", 3), tt.converters, tt.fallback)
			d := n.Decide(Flow{Dest: tt.dest, Path: tt.path}, tt.known, tt.verdicts...)
			if got := show(n, &d); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
			for _, a := range d.Attempts() {
				if a.Converter != nil && len(tt.converters) > 1 && a.Converter.Name != "second" {
					t.Errorf("an attempt through %s", a.Converter.Name)
				}
			}
		})
	}
}

// A server that only the converter reaches is asked for there, whatever it
// has said before.
func TestVerdictIsNoDeadEnd(t *testing.T) {
	n := New(wan("lte", 4), []Converter{converter(true, true, ConverterUp)}, config.FallbackDirect)
	d := n.Decide(Flow{Dest: server4, Path: config.PathAuto}, Known{}, Verdict{"mcp", FaultSilent})
	if a := d.Attempts(); len(a) != 1 || a[0].Path != config.PathConvert {
		t.Errorf("attempts %+v: %s", a, d.Explain())
	}
}
