// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/agent/health"
	"braid/agent/plan"
)

// When a backup has subflows, and when NATs are kept from forgetting.
func TestStandby(t *testing.T) {
	const network = `
link fibre device 198.51.100.2/24 via 198.51.100.1
link cable device 100.64.9.2/24 via 100.64.9.1
link lte wwan 100.64.0.2/30 via 100.64.0.1
`
	wan := func(name, options string) string {
		s := "config wan '" + name + "'\n\toption device '" + name + "'\n"
		for _, o := range strings.Split(options, ", ") {
			key, value, _ := strings.Cut(o, " ")
			s += "\toption " + key + " '" + value + "'\n"
		}
		return s
	}
	fibre := wan("fibre", "role primary")
	lte := wan("lte", "role backup, kind cellular")
	leg := func(wan string) health.Leg { return health.Leg{WAN: wan, Device: wan} }
	doubted, down := health.Health{Doubted: true}, health.Health{Verdict: health.Down}
	tests := []struct {
		name, wans string
		health     map[health.Leg]health.Health
		bulk       bool
		endpoints  string
		keepMapped bool
	}{
		{"not needed", fibre + lte, nil, false, "fibre", true},
		{"the fibre in doubt", fibre + lte, map[health.Leg]health.Health{leg("fibre"): doubted}, false, "fibre, lte on standby", false},
		{"the fibre dead", fibre + lte, map[health.Leg]health.Health{leg("fibre"): down}, false, "lte", true},
		{"one of two in doubt", fibre + wan("cable", "role bond") + lte, map[health.Leg]health.Health{leg("fibre"): doubted}, false, "fibre, cable", false},
		{"a download", fibre + lte, nil, true, "fibre, lte on standby", false},
		{"a backup that costs nothing", fibre + wan("lte", "role backup, kind fixed"), nil, false, "fibre, lte on standby", false},
		{"a fixed line with a quota", fibre + wan("lte", "role backup, kind fixed, quota 50"), nil, false, "fibre", true},
		{"bonded", fibre + wan("lte", "role bond, kind cellular"), nil, false, "fibre, lte", false},
		{"two that forget", wan("cable", "role primary") + wan("lte", "role bond, kind cellular"), nil, false, "cable, lte", true},
		{"one that forgets, and one on standby", wan("lte", "role primary, kind cellular") + wan("fibre", "role backup"), nil, false, "lte, fibre on standby", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := plan.Input{Config: parse(t, tt.wans), Bulk: tt.bulk}
			if err := readNetwork(&in, network); err != nil {
				t.Fatal(err)
			}
			for l, h := range tt.health {
				in.Health[l] = h
			}
			p, _ := plan.Make(in)
			var got []string
			for _, e := range p.Endpoints {
				w, _ := p.WANByAddr(e.Addr)
				name := w.Name
				if strings.Contains(flagNames(e.Flags), "backup") {
					name += " on standby"
				}
				got = append(got, name)
			}
			if d := cmp.Diff(tt.endpoints, strings.Join(got, ", ")); d != "" {
				t.Errorf("endpoints (-want +got):\n%s", d)
			}
			if p.Network.KeepMapped != tt.keepMapped {
				t.Errorf("KeepMapped is %v", p.Network.KeepMapped)
			}
		})
	}
}
