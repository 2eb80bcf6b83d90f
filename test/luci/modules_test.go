// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package luci

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"braid/agent/config"
	"braid/agent/history"
	"braid/agent/report"
	"braid/agent/ubus"
	"braid/agent/uci"
)

// The page's pure modules, in node: figures, series, the picture, what values
// options take, what is written in words.
func TestModules(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("node", "--test", "modules/")
	cmd.Env = append(os.Environ(), "VALUES="+keep(t, dir, "values", values(t)), "ANSWERS="+keep(t, dir, "answers", answers(t)))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "\n# skipped 0\n") {
		t.Errorf("%v: %v\n%s", cmd, err, out)
	}
}

func keep(t *testing.T, dir, name string, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	must(t, err)
	path := filepath.Join(dir, name)
	must(t, os.WriteFile(path, raw, 0o644))
	return path
}

// options are those that take a text, by the type of their section, with
// values from which others are made.
var options = map[string]map[string][]string{
	"globals": {"lan": {"lan", "br-lan.1", "..", "a b"}},
	"wan": {
		"interface": {"wan", "wan_6", strings.Repeat("x", 32)}, "device": {"eth0", strings.Repeat("x", 15)},
		"gateway": addresses, "probe": addresses, "weight": numberTexts, "rate_down": numberTexts, "rate_up": numberTexts,
		"quota": numberTexts, "quota_day": numberTexts,
		"modem": {"auto", "123456789012345", "/org/freedesktop/ModemManager1/Modem/0", "/org/freedesktop/ModemManager1/Modem/"},
	},
	"converter": {
		"address": slices.Concat(addresses, names), "srv": names, "port": numberTexts, "priority": numberTexts,
		"cookie": secrets, "key": secrets,
	},
	"rule": {
		"src": slices.Concat(prefixes, []string{"02:00:5e:10:00:01", "02-00-5E-10-00-01", "02:00:5e:10:00", "2:0:5e:10:0:1"}), "dest": prefixes,
		"domain": names, "dest_port": {"80", "1-65535", "0", "65536", "2-1", "-1", "1-", "80-80", "080"},
	},
}

var (
	addresses = []string{"192.0.2.1", "2001:db8::1", "::", "::1", "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "ff02::1", "fe80::1", "fe80::1%eth0", "169.254.1.1",
		"::ffff:192.0.2.1", "::ffff:127.0.0.1", "2001:db8:0:0:0:0:0:1", "2001:db8:0:0:0:0:0::1", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::2::3", "192.0.2.01", "192.0.2.256", "192.0.2",
		"64:ff9b::192.0.2.33", "::192.0.2.1:1", "12345::", "febf::1", "fec0::1", "::ffff:c000:201"}
	prefixes = slices.Concat(addresses, []string{"192.0.2.0/24", "192.0.2.1/24", "0.0.0.0/0", "10.0.0.0/33", "10.0.0.0/08", "2001:db8::/32", "2001:db8::1/32", "::/0", "::/129",
		"::ffff:192.0.2.0/120", "128.0.0.0/1", "fe80::%eth0/64", "192.0.2.0/", "/24", "10.0.0.0/+8"})
	names = []string{"mcp.example", "example", "a.b.c.example.", "*.example", ".example", "-a.example", "a-.example", "_dmarc.example", "a._b", "192.0.2.300", "1.2", "bücher.example",
		"xn--bcher-kva.example", strings.Repeat("a", 63) + ".example", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 124) + "abcd", strings.Repeat("a.", 125) + "abcd", "a..b", "EXAMPLE.com"}
	secrets     = []string{"00", strings.Repeat("c0", 15), strings.Repeat("C0", 16), strings.Repeat("ab", 17), strings.Repeat("ab", 64), strings.Repeat("ab", 65)}
	numberTexts = []string{"0", "1", "28", "29", "100", "1000", "1001", "65535", "65536", "1000000", "1000001", "100000000", "100000001", "-1", "1.5", "007", "x", "1e3"}
)

type value struct {
	Type, Option, Value string
	OK                  bool
}

func (v value) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"type": v.Type, "option": v.Option, "value": v.Value, "ok": v.OK})
}

// values are texts, and what has become of them by a slip of the finger, with
// the verdict of the agent's reader.
func values(t *testing.T) (all []value) {
	const keys = "0123456789abcdefxyz:.-/%_ *A"
	random := rand.New(rand.NewPCG(1, 2))
	for kind, byName := range options {
		for name, texts := range byName {
			for _, text := range texts {
				all = append(all, judge(kind, name, text))
				for range 40 {
					b := []byte(text)
					at := random.IntN(len(b) + 1)
					switch key := keys[random.IntN(len(keys))]; random.IntN(3) {
					case 0:
						b = slices.Insert(b, at, key)
					case 1:
						b = slices.Delete(b, min(at, len(b)-1), min(at, len(b)-1)+1)
					default:
						b[min(at, len(b)-1)] = key
					}
					// What is empty LuCI does not save.
					if slip := strings.ToValidUTF8(string(b), "?"); slip != "" {
						all = append(all, judge(kind, name, slip))
					}
				}
			}
		}
	}
	return all
}

func judge(kind, name, text string) value {
	s := uci.Section{Type: kind, Name: "x", Options: []uci.Option{{Name: name, Values: []string{text}}}}
	if name != "address" && name != "srv" && kind == "converter" {
		s.Options = append(s.Options, uci.Option{Name: "address", Values: []string{"192.0.2.1"}})
	}
	if kind == "wan" && name != "interface" && name != "device" {
		s.Options = append(s.Options, uci.Option{Name: "interface", Values: []string{"wan"}})
	}
	_, problems := config.Parse(uci.Package{Sections: []uci.Section{s}})
	return value{kind, name, text, !slices.ContainsFunc(problems, func(p config.Problem) bool { return p.Option == name && !p.Warning })}
}

// answers are what the agent's types make of something, through its own
// encoding.
func answers(t *testing.T) map[string]any {
	now := time.Unix(1_700_000_000, 0)
	rates := history.NewRates()
	for i := range 100 {
		rates.Add(now.Add(time.Duration(i)*time.Second), map[string]history.Sample{"fibre": {RX: 1e6, TX: 1e5, RTT: time.Millisecond}})
	}
	var events history.Events
	for _, e := range []report.Told{report.WANEvent{WAN: "fibre", From: "down", To: "up"}, report.ConverterEvent{Name: "mcp", To: "up"},
		report.ConfigEvent{Problems: []report.Problem{{Section: "lte", Message: "wrong"}}}} {
		events.Add(now, e.Entry())
	}
	wan := report.WAN{Name: "fibre", Interface: "wan", Device: "eth1", Kind: config.KindCellular, Role: config.RolePrimary, EffectiveRole: config.RoleBond, State: "up",
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, IPv4: "public", RXRate: 5000, Quota: report.Quota{Used: 1, Limit: 2},
		Legs:     []report.Leg{{Family: "ipv4", Origin: "native", State: "up", Source: "192.0.2.2", Converters: []report.LegConverter{{Name: "mcp", State: "up"}}}},
		Cellular: report.Cellular{Operator: "x", Signal: 50, RSRP: -90}}
	raw := map[string]any{
		"status": report.Status{State: report.StateOK, Problems: []report.Problem{{Section: "lte", Message: "wrong"}}, WANs: []report.WAN{wan},
			Converters: []report.Converter{{Name: "mcp", Address: "192.0.2.10", State: "up"}}, Bytes: report.Bytes{RX: 10, Direct: 2}},
		"history": rates.Report(time.Minute, []string{"fibre"}),
		"events":  events.Report(now, 0),
		"connections": report.Connections{Total: 1, Connections: []report.Connection{{ID: 1, Src: "a", Dst: "b", Path: config.PathConvert, Converter: "mcp",
			Subflows: []report.Subflow{{WAN: "fibre", Local: "c", Remote: "d", Backup: true}}}}},
		"explain": report.Explanation{Path: config.PathConvert, Reason: "x", Rule: "y", Subflows: []report.ExpectedSubflow{{WAN: "fibre", Family: "ipv4", Remote: "z", Peer: "lent"}}},
	}
	out := make(map[string]any)
	for name, v := range raw {
		data, err := ubus.Marshal(v)
		must(t, err)
		var answer any
		must(t, data.Unmarshal(&answer))
		out[name] = answer
	}
	return out
}
