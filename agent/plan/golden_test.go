// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/agent/config"
	"braid/agent/health"
	"braid/agent/kernel/firewall/nft"
	"braid/agent/load"
	"braid/agent/modem"
	"braid/agent/netstate"
	"braid/agent/plan"
	"braid/agent/uci"
	"braid/transport/mptcp"
)

var update = flag.Bool("update", false, "write what is seen into testdata")

// The parts of a case.
const (
	networkMark = "\n-- network --\n"
	planMark    = "\n-- plan --\n"
	rulesetMark = "\n-- ruleset --\n"
)

// Each file of testdata is a case: a configuration, the network it meets, and
// the plan and the nftables ruleset that come of the two.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			given, want, _ := strings.Cut(string(raw), planMark)
			text, network, ok := strings.Cut(given, networkMark)
			if !ok {
				t.Fatal("no network")
			}
			in := plan.Input{Ports: plan.Ports{5125, 5126, 5127}, Config: parse(t, text+"\n")}
			if err := readNetwork(&in, network); err != nil {
				t.Fatal(err)
			}
			got := show(plan.Make(in))
			if *update {
				if err := os.WriteFile(file, []byte(given+planMark+got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func parse(t *testing.T, text string) config.Config {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "braid"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := uci.Load(dir, "braid")
	if err != nil {
		t.Fatal(err)
	}
	c, problems := config.Parse(p)
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

// readNetwork reads a network of a line a thing:
//
//	link NAME TYPE [down] [ADDRESS/LENGTH]... [via GATEWAY|link4|link6 [metric N] [table N] [src ADDRESS]]...
//	refused ipv4|ipv6 TABLE METRIC
//	interface NAME up|down DEVICE PROTOCOL [PARENT]
//	learned INTERFACE DNS-SERVER|PREFIX...
//	netifd INTERFACE GATEWAY|link4|link6
//	rule ipv4|ipv6 PREF TABLE [not] [from PREFIX] [to PREFIX] [iif DEVICE] [fwmark MARK/MASK] [suppress]
//	barred DEVICE ipv4|ipv6
//	helped PORT
//	host NAME ADDRESS...
//	dead WAN ipv4|ipv6 REASON
//	unheard WAN ipv4|ipv6
//	held WAN REASON
//	clat WAN DEVICE ADDRESS PREFIX INNER
//	modem WAN roaming|denied|denied-uqmi|MTU
//	spent WAN
//	set WAN ROLE
//	lost ADDRESS...
//
// Links have their number as index. Link-local addresses are not usable, nor
// are those with a question mark: tentative or temporary ones. An exclamation
// mark says that one is deprecated. The system's own rules are there unasked.
func readNetwork(in *plan.Input, text string) error {
	in.Resolved = make(map[string][]netip.Addr)
	in.Health = make(map[health.Leg]health.Health)
	in.Load = make(map[string]load.Use)
	in.CLAT = make(map[string]plan.CLAT)
	in.Barred = make(map[plan.Barrier]bool)
	in.Modems = make(map[string]modem.Facts)
	in.Spent = make(map[string]bool)
	for _, v6 := range []bool{false, true} {
		in.Net.Rules = append(in.Net.Rules, netstate.Rule{Pref: 32766, IPv6: v6, Table: plan.TableMain}, netstate.Rule{Pref: 32767, IPv6: v6, Table: 253})
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		var err error
		switch verb, args := f[0], f[1:]; {
		case verb == "link" && len(args) >= 2:
			var l netstate.Link
			l, err = readLink(args)
			l.Index = len(in.Net.Links) + 1
			in.Net.Links = append(in.Net.Links, l)
		case verb == "interface" && len(args) >= 4:
			i := netstate.Interface{Name: args[0], Up: args[1] == "up", L3Device: args[2], Proto: args[3]}
			if len(args) > 4 {
				i.Parent = args[4]
			}
			in.Net.Interfaces = append(in.Net.Interfaces, i)
		case verb == "learned" && len(args) >= 2:
			i := slices.IndexFunc(in.Net.Interfaces, func(i netstate.Interface) bool { return i.Name == args[0] })
			for _, a := range args[1:] {
				if p, err := netip.ParsePrefix(a); err == nil {
					in.Net.Interfaces[i].Prefixes = append(in.Net.Interfaces[i].Prefixes, p)
				} else {
					in.Net.Interfaces[i].DNS = append(in.Net.Interfaces[i].DNS, netip.MustParseAddr(a))
				}
			}
		case verb == "netifd" && len(args) == 2:
			i := slices.IndexFunc(in.Net.Interfaces, func(i netstate.Interface) bool { return i.Name == args[0] })
			in.Net.Interfaces[i].Defaults = append(in.Net.Interfaces[i].Defaults, readDefault(args[1]))
		case verb == "refused" && len(args) == 3:
			d := netstate.Default{IPv6: args[0] == "ipv6"}
			_, err = fmt.Sscan(args[1]+" "+args[2], &d.Table, &d.Metric)
			in.Net.Refused = append(in.Net.Refused, d)
		case verb == "rule" && len(args) >= 3:
			var r netstate.Rule
			r, err = readRule(args)
			in.Net.Rules = append(in.Net.Rules, r)
			slices.SortStableFunc(in.Net.Rules, func(a, b netstate.Rule) int { return a.Pref - b.Pref })
		case verb == "lost":
			for _, a := range args {
				in.Lost = append(in.Lost, netip.MustParseAddr(a))
			}
		case verb == "barred" && len(args) == 2:
			in.Barred[plan.Barrier{Device: args[0], IPv6: args[1] == "ipv6"}] = true
		case verb == "helped" && len(args) == 1:
			var port uint16
			_, err = fmt.Sscan(args[0], &port)
			in.Helped = append(in.Helped, config.PortRange{First: port, Last: port})
		case verb == "host" && len(args) >= 2:
			for _, a := range args[1:] {
				in.Resolved[args[0]] = append(in.Resolved[args[0]], netip.MustParseAddr(a))
			}
		case verb == "dead" && len(args) >= 3:
			for _, l := range in.Net.Links { // over whichever it is
				in.Health[health.Leg{WAN: args[0], Device: l.Name, IPv6: args[1] == "ipv6"}] =
					health.Health{Verdict: health.Down, Reason: strings.Join(args[2:], " ")}
			}
		case verb == "unheard" && len(args) == 2:
			in.Health[health.Leg{WAN: args[0], Device: args[0], IPv6: args[1] == "ipv6"}] =
				health.Health{Verdict: health.Degraded, Unheard: true}
		case verb == "clat" && len(args) == 5:
			in.CLAT[args[0]] = plan.CLAT{
				Device: args[1], IPv4: netip.MustParseAddr(args[2]), Prefix: netip.MustParsePrefix(args[3]), Inner: netip.MustParseAddr(args[4]),
			}
		case verb == "modem" && len(args) == 2:
			f := modem.Facts{Source: modem.SourceManager, Present: true, Registration: modem.Home, Operator: "Acme"}
			switch args[1] {
			case "roaming":
				f.Registration, f.Roaming = modem.Roaming, true
			case "denied":
				f.Registration = modem.Denied
			case "denied-uqmi":
				f.Source, f.Registration = modem.SourceUQMI, modem.Denied
			default:
				f.MTU, err = strconv.Atoi(args[1])
			}
			in.Modems[args[0]] = f
		case verb == "set" && len(args) == 2:
			in.Overrides = map[string]config.Role{args[0]: config.Role(args[1])}
		case verb == "spent" && len(args) == 1:
			in.Spent[args[0]] = true
		case verb == "held" && len(args) >= 2:
			in.Load[args[0]] = load.Use{Held: true, Reason: strings.Join(args[1:], " ")}
		default:
			err = errors.New("not understood")
		}
		if err != nil {
			return fmt.Errorf("%q: %w", strings.TrimSpace(line), err)
		}
	}
	return nil
}

func readLink(args []string) (netstate.Link, error) {
	l := netstate.Link{Name: args[0], Type: args[1], Up: true, MTU: 1500, Loopback: args[1] == "loopback"}
	for i := 2; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "down":
			l.Up = false
		case arg == "via" && i+1 < len(args):
			i++
			l.Defaults = append(l.Defaults, readDefault(args[i]))
		case arg == "metric" && i+1 < len(args) && len(l.Defaults) > 0:
			i++
			if _, err := fmt.Sscan(args[i], &l.Defaults[len(l.Defaults)-1].Metric); err != nil {
				return l, err
			}
		case arg == "table" && i+1 < len(args) && len(l.Defaults) > 0:
			i++
			if _, err := fmt.Sscan(args[i], &l.Defaults[len(l.Defaults)-1].Table); err != nil {
				return l, err
			}
		case arg == "src" && i+1 < len(args) && len(l.Defaults) > 0:
			i++
			l.Defaults[len(l.Defaults)-1].Source = netip.MustParseAddr(args[i])
		default:
			text, unfit := strings.CutSuffix(arg, "?")
			text, deprecated := strings.CutSuffix(text, "!")
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return l, err
			}
			l.Addrs = append(l.Addrs, netstate.Addr{Prefix: p, Usable: !unfit && !p.Addr().IsLinkLocalUnicast(), Deprecated: deprecated})
		}
	}
	return l, nil
}

// readDefault reads a default route of the main table.
func readDefault(via string) netstate.Default {
	d := netstate.Default{IPv6: via == "link6", Table: plan.TableMain}
	if !strings.HasPrefix(via, "link") {
		d.Gateway = netip.MustParseAddr(via)
		d.IPv6 = d.Gateway.Is6()
	}
	return d
}

func readRule(args []string) (netstate.Rule, error) {
	r := netstate.Rule{IPv6: args[0] == "ipv6"}
	if _, err := fmt.Sscan(args[1]+" "+args[2], &r.Pref, &r.Table); err != nil {
		return r, err
	}
	for i := 3; i < len(args); i++ {
		switch args[i] {
		case "not":
			r.Invert = true
			continue
		case "suppress":
			r.NoDefault = true
			continue
		}
		i++
		if i == len(args) {
			return r, errors.New("no value")
		}
		var err error
		switch args[i-1] {
		case "from":
			r.Source, err = netip.ParsePrefix(args[i])
		case "to":
			r.Dest, err = netip.ParsePrefix(args[i])
		case "iif":
			r.In = args[i]
		case "fwmark":
			_, err = fmt.Sscanf(args[i], "%v/%v", &r.Mark, &r.Mask)
		default:
			err = errors.New("no selector")
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// show writes a line for each problem and each part of the plan.
func show(p plan.Plan, problems config.Problems) string {
	var b strings.Builder
	for _, pr := range problems {
		severity := "error"
		if pr.Warning {
			severity = "warning"
		}
		fmt.Fprintf(&b, "%s %v\n", severity, strings.TrimPrefix(pr.Error(), ":"))
	}
	for _, w := range p.WANs {
		legs := w.Legs
		w.Legs = nil
		each(&b, "wan", []plan.WAN{w})
		each(&b, "leg", legs)
	}
	each(&b, "route", p.Routes)
	each(&b, "rule", p.Rules)
	each(&b, "endpoint", p.Endpoints)
	if p.Limits != nil {
		fmt.Fprintf(&b, "limits%s\n", fields(reflect.ValueOf(*p.Limits), ""))
	}
	each(&b, "sysctl", p.Sysctls)
	each(&b, "probe", p.Probes)
	each(&b, "ipv6only", p.IPv6Only)
	each(&b, "nameserver", p.Nameservers)
	each(&b, "modem", p.Modems)
	for _, a := range p.Lost {
		fmt.Fprintf(&b, "lost %v\n", a)
	}
	if p.Firewall != nil && p.Firewall.Extend != nil {
		for _, w := range p.Firewall.Extend.WANs {
			fmt.Fprintf(&b, "extend Mark=%#x IPv4=%v IPv6=%v\n", w.Mark, w.IPv4, w.IPv6)
		}
	}
	if p.Firewall != nil {
		b.WriteString(rulesetMark + nft.Text(*p.Firewall))
	}
	return b.String()
}

func each[T any](b *strings.Builder, what string, list []T) {
	for _, v := range list {
		fmt.Fprintf(b, "%s%s\n", what, fields(reflect.ValueOf(v), ""))
	}
}

// flagNames spells flags as ip-mptcp(8) does.
func flagNames(flags mptcp.EndpointFlags) string {
	var names []string
	for i, name := range []string{"signal", "subflow", "backup", "fullmesh", "implicit"} {
		if flags&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// fields shows those of a struct that are not zero; marks in hex.
func fields(v reflect.Value, prefix string) string {
	var b strings.Builder
	for i := range v.NumField() {
		f, name := v.Field(i), prefix+v.Type().Field(i).Name
		if f.IsZero() {
			continue
		}
		switch x := f.Interface().(type) {
		case bool:
			fmt.Fprintf(&b, " %s", name)
		case string:
			if strings.Contains(x, " ") {
				fmt.Fprintf(&b, " %s=%q", name, x)
			} else {
				fmt.Fprintf(&b, " %s=%s", name, x)
			}
		case mptcp.EndpointFlags:
			fmt.Fprintf(&b, " %s=%s", name, flagNames(x))
		case fmt.Stringer:
			fmt.Fprintf(&b, " %s=%v", name, x)
		default:
			switch f.Kind() {
			case reflect.Struct:
				b.WriteString(fields(f, name+"."))
			case reflect.Uint32:
				fmt.Fprintf(&b, " %s=%#x", name, f.Uint())
			default:
				fmt.Fprintf(&b, " %s=%v", name, x)
			}
		}
	}
	return b.String()
}
