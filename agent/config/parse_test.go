// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"braid/agent/uci"

	"github.com/google/go-cmp/cmp"
)

// valid is a configuration in which each section can take one more option.
const valid = `
config globals 'globals'
%s
config wan 'fibre'
	option interface 'wan'
%s
config wan 'lte'
	option interface 'wwan'
	option kind 'cellular'

config converter 'mcp'
	option address '192.0.2.1'
%s
config rule 'games'
%s`

// with returns the valid configuration with lines added to one section type.
func with(typ, lines string) string {
	var args []any
	for _, t := range []string{"globals", "wan", "converter", "rule"} {
		text := ""
		if t == typ {
			text = lines + "\n"
		}
		args = append(args, text)
	}
	return fmt.Sprintf(valid, args...)
}

// bad holds one wrong value of each option, and some options more.
var bad = []struct {
	typ, line string
	want      string // the problem, without the path
}{
	{"globals", "option enabled 'maybe'", `globals.enabled: "maybe" is neither 1 nor 0`},
	{"globals", "option log_level 'INFO'", `globals.log_level: "INFO" is not debug, info, warn or error`},
	{"globals", "option firewall 'pf'", `globals.firewall: "pf" is not auto, nftables or iptables`},
	{"globals", "list lan 'lan*'", `globals.lan: "lan*" is not an interface: 1 to 32 letters, digits, _ . and -`},
	{"globals", "list lan '..'", `globals.lan: ".." is not an interface: 1 to 32 letters, digits, _ . and -`},
	{"globals", "option lan 'lan guest'",
		`globals.lan: "lan guest" is not an interface: 1 to 32 letters, digits, _ . and -; a list takes one value a line`},
	{"globals", "option lan_mptcp '1'", `globals.lan_mptcp: "1" is not pass, convert or extend`},
	{"globals", "option fallback 'pass'", `globals.fallback: "pass" is not direct or reject`},
	{"globals", "option steer '2'", `globals.steer: "2" is neither 1 nor 0`},
	{"globals", "option block_quic 'True'", `globals.block_quic: "True" is neither 1 nor 0`},
	{"globals", "option accept 'never'", `globals.accept: "never" is not early or late`},
	{"globals", "option ipv6 'nat'", `globals.ipv6: "nat" is not masquerade or npt`},

	{"wan", "list interface 'wan;reboot'",
		`fibre.interface: "wan;reboot" is not an interface: 1 to 32 letters, digits, _ . and -`},
	{"wan", "option device 'eth1'",
		"fibre.device: interface is set as well; only one of them can say where this WAN is"},
	{"wan", "option gateway 'gw.example'", `fibre.gateway: "gw.example" is not an IP address`},
	{"wan", "option gateway '0.0.0.0'", `fibre.gateway: "0.0.0.0" is not the address of one host`},
	{"wan", "option gateway 'fe80::1%eth0'", `fibre.gateway: "fe80::1%eth0" has a zone, which is not needed here`},
	{"wan", "list gateway '198.51.100.1'\nlist gateway '198.51.100.2'",
		`fibre.gateway: "198.51.100.2" is a second gateway of its address family`},
	{"wan", "option kind 'lte'", `fibre.kind: "lte" is not fixed or cellular`},
	{"wan", "option role 'main'", `fibre.role: "main" is not primary, bond, overflow, backup or off`},
	{"wan", "option weight '0'", `fibre.weight: "0" is not a number from 1 to 1000`},
	{"wan", "option weight '1001'", `fibre.weight: "1001" is not a number from 1 to 1000`},
	{"wan", "option rate_down '50M'", `fibre.rate_down: "50M" is not a number from 1 to 100000000`},
	{"wan", "option rate_up '0'", `fibre.rate_up: "0" is not a number from 1 to 100000000`},
	{"wan", "list probe '127.0.0.1'", `fibre.probe: "127.0.0.1" is this host itself`},
	{"wan", "list probe 'ff02::1'", `fibre.probe: "ff02::1" is not the address of one host`},
	{"wan", "option quota '-1'", `fibre.quota: "-1" is not a number from 0 to 1000000`},
	{"wan", "option quota '1.5'", `fibre.quota: "1.5" is not a number from 0 to 1000000`},
	{"wan", "option quota_day '29'", `fibre.quota_day: "29" is not a number from 1 to 28`},
	{"wan", "option quota_period 'year'", `fibre.quota_period: "year" is not month or once`},
	{"wan", "option modem '49015420323751'", "fibre.modem: a number of 14 digits is not auto, an IMEI of 15 digits or /org/freedesktop/ModemManager1/Modem/N"},
	{"wan", "option quota_action 'stop'", `fibre.quota_action: "stop" is not backup or off`},
	{"wan", "option modem 'ttyUSB0'", `fibre.modem: "ttyUSB0" is not auto, an IMEI of 15 digits or ` +
		`/org/freedesktop/ModemManager1/Modem/N`},
	{"wan", "option modem 'auto'\noption kind 'fixed'", "fibre.modem: only for a WAN of kind cellular"},
	{"wan", "option roaming 'y'", `fibre.roaming: "y" is neither 1 nor 0`},
	{"wan", "option roaming '1'\noption kind 'fixed'", "fibre.roaming: only for a WAN of kind cellular"},

	{"converter", "option address '192.0.2.300'",
		`mcp.address: "192.0.2.300" is neither an IP address nor a host name`},
	{"converter", "option address 'braid://192.0.2.10:5124#8f1c0b7e5d2a4936a7c4e1f0b3d28596'",
		"mcp.address: is what `braid pair` makes a section of, not an address"},
	{"converter", "option address 'fe80::1'", `mcp.address: "fe80::1" reaches no further than one link`},
	{"converter", "option address '::'", `mcp.address: "::" is not the address of one host`},
	{"converter", "option address '-mcp.example'",
		`mcp.address: "-mcp.example" is neither an IP address nor a host name`},
	{"converter", "option port '65536'", `mcp.port: "65536" is not a number from 1 to 65535`},
	{"converter", "list port '1'\nlist port '2'", "mcp.port: takes one value, not the 2 given"},
	{"converter", "option cookie 'c0f'", "mcp.cookie: not an even number of hex digits"},
	{"converter", "option cookie 'secret'", "mcp.cookie: not an even number of hex digits"},
	{"converter", "option cookie '" + strings.Repeat("00", 65) + "'",
		"mcp.cookie: 65 bytes, not 16 to 64; two hex digits are a byte"},
	{"converter", "option srv '192.0.2.10'", "mcp.srv: \"192.0.2.10\" is not a domain name"},
	{"converter", "option srv 'isp.example'",
		"mcp.srv: address or port is set as well; they come from the DNS then"},
	{"converter", "option key 'c0ffee'", "mcp.key: 3 bytes, not 16 to 64; two hex digits are a byte"},
	{"converter", "option key 'secret'", "mcp.key: not an even number of hex digits"},
	{"converter", "option mode 'transparent'", `mcp.mode: "transparent" is not explicit or onpath`},
	{"converter", "option mode 'onpath'", "mcp.wan: mode onpath needs the WAN on whose path it stands"},
	{"converter", "option wan 'fibre'", "mcp.wan: only with mode onpath"},
	{"converter", "option priority 'high'", `mcp.priority: "high" is not a number from 0 to 65535`},

	{"rule", "option enabled ' 1'", `games.enabled: " 1" is neither 1 nor 0`},
	{"rule", "list src '192.168.1.20/33'",
		`games.src: "192.168.1.20/33" is neither an IP address, a prefix nor a MAC address`},
	{"rule", "list src '00:11:22:33:44'",
		`games.src: "00:11:22:33:44" is neither an IP address, a prefix nor a MAC address`},
	{"rule", "list src '192.168.1.20/24'",
		`games.src: "192.168.1.20/24" has bits beyond its length; the network is 192.168.1.0/24`},
	{"rule", "list dest 'bank.example'", `games.dest: "bank.example" is neither an IP address nor a prefix`},
	{"rule", "list dest '::ffff:192.0.2.0/120'",
		`games.dest: "::ffff:192.0.2.0/120" is neither an IP address nor a prefix`},
	{"rule", "list domain '*.bank.example'",
		`games.domain: "*.bank.example": leave out what precedes the name, subdomains are included`},
	{"rule", "list domain 'bank..example'", `games.domain: "bank..example" is not a domain name`},
	{"rule", "list domain 'bücher.example'",
		`games.domain: "bücher.example" has to be written in ASCII, its form with xn--`},
	{"rule", "list domain 'a/b'", `games.domain: "a/b" is not a domain name`},
	{"rule", "list domain '-a.example'", `games.domain: "-a.example" is not a domain name`},
	{"rule", "list domain 'a-.example'", `games.domain: "a-.example" is not a domain name`},
	{"rule", "list domain 'a.-example'", `games.domain: "a.-example" is not a domain name`},
	{"rule", "list domain 'a.example-'", `games.domain: "a.example-" is not a domain name`},
	{"rule", "list domain 'a.exam_ple'", `games.domain: "a.exam_ple" is not a domain name`},
	{"rule", "list domain 'a.123'", `games.domain: "a.123" is not a domain name`},
	{"rule", "list domain '" + strings.Repeat("a.", 127) + "a'",
		`games.domain: "` + strings.Repeat("a.", 127) + `a" is not a domain name`},
	{"rule", "list domain '" + strings.Repeat("a", 64) + ".example'",
		`games.domain: "` + strings.Repeat("a", 64) + `.example" is not a domain name`},
	{"rule", "option proto 'sctp'", `games.proto: "sctp" is not tcp, udp, icmp or any`},
	{"rule", "list dest_port '0'", `games.dest_port: "0" is not a port from 1 to 65535 or a range of them`},
	{"rule", "list dest_port '2000-1000'", `games.dest_port: "2000-1000" ends before it begins`},
	{"rule", "list dest_port '1-2-3'", `games.dest_port: "1-2-3" is not a port from 1 to 65535 or a range of them`},
	{"rule", "list dest_port '1'\noption proto 'icmp'", "games.dest_port: ICMP has no ports"},
	{"rule", "option path 'bypass'", `games.path: "bypass" is not auto, convert, direct, pass or reject`},
	{"rule", "option path 'convert'\noption proto 'udp'", "games.path: convert is for TCP, and proto is udp"},
	{"rule", "option wan 'dsl'\noption path 'pass'", `games.wan: there is no WAN "dsl"`},
	{"rule", "option wan 'fibre'", "games.wan: only with path pass, and path is auto"},
}

func TestBadValue(t *testing.T) {
	if _, problems := parseText(t, with("", "")); problems != nil {
		t.Fatalf("the valid configuration: %v", problems)
	}
	for _, tc := range bad {
		t.Run(tc.typ+" "+tc.line, func(t *testing.T) {
			c, problems := parseText(t, with(tc.typ, tc.line))
			var got []string
			for _, p := range problems {
				if p.Warning {
					t.Errorf("a warning: %v", p)
				}
				got = append(got, p.Error())
			}
			if diff := cmp.Diff([]string{"/etc/config/braid:" + tc.want}, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if diff := cmp.Diff(Config{}, c); diff != "" {
				t.Errorf("the config can be used:\n%s", diff)
			}
		})
	}
}

// A bad value is tried of every option there is.
func TestBadValueOfEachOption(t *testing.T) {
	tried := make(map[string]bool)
	for _, tc := range bad {
		tried[tc.typ+"."+strings.Fields(tc.line)[1]] = true
	}
	for _, option := range options() {
		if !tried[option] {
			t.Errorf("%s has no case", option)
		}
	}
}

// options returns every option there is as type.option.
func options() []string {
	var all []string
	for typ, parse := range map[string]func(*section){
		"globals":   func(s *section) { new(parser).parseGlobals(s) },
		"wan":       func(s *section) { parseWAN(s) },
		"converter": func(s *section) { parseConverter(s) },
		"rule":      func(s *section) { parseRule(s) },
	} {
		s := &section{problems: new(Problems)}
		parse(s)
		for _, option := range s.known {
			all = append(all, typ+"."+option)
		}
	}
	slices.Sort(all)
	return all
}

func TestBadSection(t *testing.T) {
	var wans strings.Builder
	for i := range MaxWANs + 1 {
		fmt.Fprintf(&wans, "config wan 'w%d'\n\toption device 'eth%d'\n", i, i)
	}
	long := strings.Repeat("w", 33)
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"anonymous wan", "config wan\n\toption device 'eth0'\n",
			[]string{"@wan[0]: a WAN needs a name: config wan 'NAME'"}},
		{"wan nowhere", "config wan 'a'\n", []string{"a: neither interface nor device is set"}},
		{"long name", "config wan '" + long + "'\n\toption device 'eth0'\n",
			[]string{long + ": the name has more than 32 characters"}},
		{"long device", "config wan 'a'\n\toption device 'abcdefghijklmnop'\n",
			[]string{`a.device: "abcdefghijklmnop" is not a device: 1 to 15 letters, digits, _ . and -`}},
		{"too many WANs", wans.String(), []string{"w30: there can be 30 WANs at most"}},
		{"WAN is the LAN", "config wan 'a'\n\toption device 'lan'\n",
			[]string{`a.device: "lan" is a LAN of globals.lan`}},
		{"converter nowhere", "config converter\n", []string{"@converter[0]: no address is set"}},
		{"everything at once", "config wan 'a'\n\toption weight 'x'\nconfig rule\n\toption proto 'x'\n\toption path 'x'\n",
			[]string{
				`a.weight: "x" is not a number from 1 to 1000`,
				"a: neither interface nor device is set",
				`@rule[0].proto: "x" is not tcp, udp, icmp or any`,
				`@rule[0].path: "x" is not auto, convert, direct, pass or reject`,
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, problems := parseText(t, tc.text)
			var got []string
			for _, p := range problems {
				got = append(got, strings.TrimPrefix(p.Error(), "/etc/config/braid:"))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestMaxWANs(t *testing.T) {
	var text strings.Builder
	for i := range MaxWANs {
		fmt.Fprintf(&text, "config wan 'w%d'\n\toption device 'eth%d'\n", i, i)
	}
	if c, problems := parseText(t, text.String()); problems != nil || len(c.WANs) != MaxWANs {
		t.Errorf("%d WANs, %v", len(c.WANs), problems)
	}
}

func TestBooleans(t *testing.T) {
	for text, want := range map[string]bool{
		"1": true, "on": true, "true": true, "yes": true, "enabled": true,
		"0": false, "off": false, "false": false, "no": false, "disabled": false,
	} {
		c, problems := parseText(t, with("globals", "option block_quic '"+text+"'"))
		if problems != nil || c.Globals.BlockQUIC != want {
			t.Errorf("%s: %v, %v", text, c.Globals.BlockQUIC, problems)
		}
	}
}

// libuci keeps a list value that is given twice.
func TestRepeatedValue(t *testing.T) {
	c, problems := Parse(uci.Package{Path: "/etc/config/braid", Sections: []uci.Section{{
		Type: "globals", Name: "globals",
		Options: []uci.Option{{Name: "lan", Values: []string{"lan", "guest", "lan"}, List: true}},
	}}})
	want := Problems{{Path: "/etc/config/braid", Section: "globals", Option: "lan",
		Message: `"lan" is given twice`, Warning: true}}
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"lan", "guest"}, c.Globals.LAN); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestProblems(t *testing.T) {
	warning := Problem{Path: "f", Section: "s", Message: "w", Warning: true}
	wrong := Problem{Path: "f", Section: "s", Option: "o", Message: "m"}
	if err := (Problems{warning}).Err(); err != nil {
		t.Errorf("a warning alone: %v", err)
	}
	err := Problems{warning, wrong, wrong}.Err()
	if err == nil || err.Error() != "f:s.o: m\nf:s.o: m" {
		t.Errorf("got %v", err)
	}
	var p Problem
	if !errors.As(err, &p) || p != wrong {
		t.Errorf("got %v", p)
	}
	if got := (Problem{Path: "f", Message: "m"}).Error(); got != "f: m" {
		t.Errorf("got %s", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, tc := range bad {
		f.Add(with(tc.typ, tc.line))
	}
	files, err := filepath.Glob("testdata/*.uci")
	if err != nil || len(files) == 0 {
		f.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "braid"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := uci.Load(dir, "braid")
		if err != nil {
			return
		}
		c, problems := Parse(p)
		if problems.Err() != nil {
			if diff := cmp.Diff(Config{}, c); diff != "" {
				t.Errorf("invalid, but\n%s", diff)
			}
			return
		}
		for name, role := range c.Roles(nil) {
			if name == "" || role == "" {
				t.Errorf("WAN %q has role %q", name, role)
			}
		}
	})
}
