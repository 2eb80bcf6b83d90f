// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithServices(t *testing.T) {
	fixed := Converter{Name: "own", Addresses: []Host{{Name: "mcp.example"}}, Port: 5124}
	c := Config{Converters: []Converter{{Name: "isp", SRV: "isp.example", Port: 5124, Key: []byte("k")}, fixed, {Name: "new", SRV: "new.example"}}}
	at := func(name, host string, port uint16) Converter {
		return Converter{Name: name, SRV: "isp.example", Addresses: []Host{{Name: host}}, Port: port, Key: []byte("k")}
	}
	rest := c.Converters[1:]
	for _, tt := range []struct {
		found []Service
		want  []Converter
	}{
		{nil, append([]Converter{c.Converters[0]}, rest...)},
		{[]Service{{"a.isp.example", 443, 0}}, append([]Converter{at("isp", "a.isp.example", 443)}, rest...)},
		{[]Service{{"b.isp.example", 1, 0}, {"a.isp.example", 443, 0}},
			append([]Converter{at("isp@b.isp.example:1", "b.isp.example", 1), at("isp@a.isp.example:443", "a.isp.example", 443)}, rest...)},
	} {
		got := c.WithServices(map[string][]Service{"isp.example": tt.found}).Converters
		if d := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b Host) bool { return a == b })); d != "" {
			t.Errorf("%v: %s", tt.found, d)
		}
	}
}
