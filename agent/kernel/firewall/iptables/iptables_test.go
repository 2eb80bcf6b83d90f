// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/agent/config"
	"braid/agent/netstate"
	"braid/agent/plan"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

var example = plan.Firewall{
	LANDevices: []string{"lan0", "br-guest"},
	WANs: []plan.FirewallWAN{
		{Devices: []string{"fibre"}, Mark: 1 << 24, Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.2")}},
		{Devices: []string{"lte"}, Mark: 2 << 24, Translate: []plan.Translation{
			{Device: "lte", From: netip.MustParsePrefix("2001:db8:1::/64")},
			{Device: "lte", From: netip.MustParsePrefix("2001:db8:2::/64"), To: netip.MustParsePrefix("2001:db8:c::/64")},
		}},
	},
	LAN:        []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("2001:db8:1::/64")},
	Access:     []netip.Prefix{netip.MustParsePrefix("192.168.8.0/24")},
	Converters: []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:10::10")},
	CLATs:      []plan.CLAT{{Device: "braid-clat2", Inner: netip.MustParseAddr("fd62:7261:6964::c000:2")}},
	Ports:      plan.Ports{5125, 5126, 5127},
	Helped:     []config.PortRange{{First: 1723, Last: 1723}, {First: 1720, Last: 1730}},
	Late:       true,
	BlockQUIC:  true,
	IPsec:      true,
	Rules: []plan.FirewallRule{
		{Name: "a_name_that_is_quite_long_indeed", Domains: []string{"bank.example"}, Proto: config.ProtoAny, Path: config.PathPass, Mark: 2 << 24},
		{
			Name: "games", Proto: config.ProtoAny, Path: config.PathReject,
			Sources: []netip.Prefix{netip.MustParsePrefix("192.168.1.20/32"), netip.MustParsePrefix("192.168.0.0/16")},
			MACs:    []config.MAC{{2, 0, 0, 0, 0, 1}}, Dests: []netip.Prefix{netip.MustParsePrefix("2001:db8:80::/64")},
			Ports: []config.PortRange{{First: 443, Last: 443}, {First: 1000, Last: 2000}},
		},
		{Name: "ping", Proto: config.ProtoICMP, Path: config.PathPass, Mark: 1 << 24},
		{Name: "tv", Proto: config.ProtoAny, Path: config.PathDirect, MACs: []config.MAC{{2, 0, 0, 0, 0, 2}}},
		{Name: "rest", Proto: config.ProtoAny, Path: config.PathConvert},
	},
	Crowd: []netip.Addr{netip.MustParseAddr("192.168.1.66"), netip.MustParseAddr("fd00::66")},
	Dead:  []plan.DeadLeg{{Device: "lte"}, {Device: "lte", IPv6: true}, {Device: "fibre", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.3")}}},
	IPv4: plan.FirewallFamily{Take: true, Kept: []plan.Kept{
		{Host: netip.MustParseAddr("192.168.1.20"), Server: netip.MustParseAddr("192.0.2.80"), Mark: 2 << 24},
		{Host: netip.MustParseAddr("192.168.1.21"), Server: netip.MustParseAddr("192.0.2.80"), Mark: 1 << 24},
	}, Shares: []plan.Share{{Mark: 1 << 24, Weight: 100, Usable: true}, {Mark: 2 << 24, Weight: 50, Usable: true}, {Mark: 3 << 24, Weight: 50}}, Guests: []plan.Selector{
		{Source: netip.MustParsePrefix("192.168.1.50/32")}, {In: "br-guest", Dest: netip.MustParsePrefix("203.0.113.0/24")},
	}},
	IPv6: plan.FirewallFamily{Take: true, Kept: []plan.Kept{{Host: netip.MustParseAddr("2001:db8:1::20"), Server: netip.MustParseAddr("2001:db8:80::80"), Mark: 1 << 24}}, Shares: []plan.Share{{Mark: 1 << 24, Weight: 100, Usable: true}, {Mark: 2 << 24, Weight: 1000, Usable: true}}, Spared: []string{"lte"}, Guests: []plan.Selector{
		{In: "br-guest"}, {Proto: 6, Port: netstate.Ports{First: 25, Last: 25}}, {Port: netstate.Ports{First: 500, Last: 4500}}, {Proto: 47},
	}},
}

// as makes one of the two iptables the one that is called so.
func as(t *testing.T, variant string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			path, err := exec.LookPath(name + "-" + variant + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(dir, name+suffix)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// everything is what the kernel has, without counters.
func everything(t *testing.T) string {
	t.Helper()
	return sh(t, `for i in iptables-save ip6tables-save; do $i 2>/dev/null | sed '/^#/d; s/ \[.*//'; done; ipset list -name`)
}

func TestApply(t *testing.T) {
	for _, variant := range []string{"legacy", "nft"} {
		t.Run(variant, func(t *testing.T) {
			as(t, variant)
			sh(t, `for i in iptables ip6tables; do
				for t in raw mangle filter nat; do $i -t $t -N theirs; $i -t $t -A theirs -p udp -j ACCEPT; $i -t $t -A OUTPUT -j theirs; done
				for c in PREROUTING POSTROUTING FORWARD; do $i -t mangle -A $c -p tcp -j theirs; done
				$i -t raw -A PREROUTING -p tcp -j theirs
				$i -t nat -A POSTROUTING -p udp -j theirs
				$i -A FORWARD -p tcp -j ACCEPT
				$i -A INPUT -p tcp -j ACCEPT
				$i -A theirs -p tcp -m comment --comment "before -j BRAID_FORWARD"
				for c in BRAID_FORWARD BRAID_OLD; do $i -N $c; $i -A theirs -p tcp -j $c; done
			done
			ipset create theirs hash:ip`)
			t.Cleanup(func() {
				sh(t, `for i in iptables ip6tables; do for t in raw mangle filter nat; do $i -t $t -F; $i -t $t -X; done; done; ipset destroy theirs`)
			})
			before := everything(t)
			var f Filter
			apply := func(p *plan.Firewall) {
				t.Helper()
				if err := f.Apply(t.Context(), p); err != nil {
					t.Fatal(err)
				}
				for _, fam := range f.families {
					if fam.applied == unknown {
						t.Errorf("%s would be programmed again each second", fam.command(""))
					}
				}
			}
			apply(&example)
			want := everything(t)
			for _, part := range []string{"TPROXY --on-port 5125 --on-ip ::1", "TPROXY --on-port 5127 --on-ip 127.0.0.1", "-A PREROUTING -j BRAID_PREROUTING", "NETMAP --to 2001:db8:c::/64", "braid_alive_6"} {
				if !strings.Contains(want, part) {
					t.Errorf("no %q in\n%s", part, want)
				}
			}
			for _, harm := range []string{"", "iptables -t mangle -F BRAID_STEER", "ip6tables -D FORWARD -j BRAID_FORWARD", "iptables -t raw -F",
				"iptables -A FORWARD -j BRAID_FORWARD; ip6tables -t mangle -A PREROUTING -j BRAID_PREROUTING; ip6tables -t mangle -A PREROUTING -j BRAID_PREROUTING",
				"iptables -A BRAID_OLD -j DROP; iptables -N BRAID_OLDER; iptables -A BRAID_OLDER -j BRAID_OLD",
			} {
				sh(t, harm)
				if harm == "iptables -t raw -F" { // theirs too
					sh(t, "iptables -t raw -A theirs -p udp -j ACCEPT; iptables -t raw -A OUTPUT -j theirs; iptables -t raw -A PREROUTING -p tcp -j theirs")
				}
				apply(&example)
				if diff := cmp.Diff(want, everything(t)); diff != "" {
					t.Errorf("after %q (-want +got):\n%s", harm, diff)
				}
			}
			drain := example
			drain.Drain = true
			apply(&drain)
			if drained := everything(t); strings.Contains(drained, "--match-set braid_alive") || !strings.Contains(drained, "-m socket --transparent") {
				t.Errorf("what is to intercept nothing but keep what is open:\n%s", drained)
			}
			const bank = "a_name_that_is_quite_long_indeed"
			sh(t, "ipset add "+ruleSet(bank, false)+" 192.0.2.1; ipset add "+ruleSet(bank, true)+" 2001:db8::1")
			for _, tt := range []struct {
				rule, addr string
				want       bool
			}{{bank, "192.0.2.1", true}, {bank, "192.0.2.2", false}, {bank, "2001:db8::1", true}, {bank, "2001:db8::2", false}, {"none", "192.0.2.1", false}} {
				if in, err := InDomains(tt.rule, netip.MustParseAddr(tt.addr)); in != tt.want || err != nil {
					t.Errorf("rule %s has %s: %v, %v", tt.rule, tt.addr, in, err)
				}
			}
			less := example
			less.Dead = nil
			less.WANs, less.Rules, less.IPv4.Shares, less.IPv6 = less.WANs[:1], nil, nil, plan.FirewallFamily{Left: true}
			apply(&less)
			for _, gone := range []string{" lte", "BRAID_WAN2", "NETMAP", "braid_a_name"} {
				if got := everything(t); strings.Contains(got, gone) {
					t.Errorf("%s is still there:\n%s", gone, got)
				}
			}
			f = Filter{} // a new agent takes over what a killed one left
			apply(&example)
			apply(nil)
			if diff := cmp.Diff(before, everything(t)); diff != "" {
				t.Errorf("left behind (-before +now):\n%s", diff)
			}
			sh(t, "for i in iptables ip6tables; do $i -D theirs -p tcp -j BRAID_OLD; done")
			apply(nil)
			before = everything(t)
			if strings.Contains(before, "BRAID_OLD") {
				t.Errorf("left behind though nobody needs it:\n%s", before)
			}
			apply(&example)
			f = Filter{}
			apply(nil)
			if diff := cmp.Diff(before, everything(t)); diff != "" {
				t.Errorf("left behind by an agent that has applied nothing (-before +now):\n%s", diff)
			}
		})
	}
}

// Tables of which nothing is wanted are not made, nor asked of modprobe: a plan
// without translations has no use for nat.
func TestTables(t *testing.T) {
	as(t, "legacy")
	plain := plan.Firewall{LANDevices: example.LANDevices, WANs: example.WANs[:1], Ports: example.Ports}
	fresh, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.Do(func() error {
		var f Filter
		for _, tt := range []struct {
			p    *plan.Firewall
			want string
		}{{nil, ""}, {&plain, "filter\nmangle\nraw\n"}, {nil, "filter\nmangle\nraw\n"}} {
			for range 2 {
				if err := f.Apply(t.Context(), tt.p); err != nil {
					return err
				}
			}
			for _, names := range []string{"ip_tables_names", "ip6_tables_names"} {
				if got := sh(t, "sort /proc/net/"+names); got != tt.want {
					t.Errorf("%s has %q, want %q", names, got, tt.want)
				}
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// A program tells its own length, which is what the kernel takes
// (XT_BPF_MAX_NUM_INSTR).
func TestProgram(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		p := (&text{v6: v6}).program(seedAll, 200, 50, 100)
		count, code, _ := strings.Cut(p, ",")
		n, err := strconv.Atoi(count)
		if err != nil || n != len(strings.Split(code, ",")) || n > 64 {
			t.Errorf("%d instructions, it says %s", len(strings.Split(code, ",")), count)
		}
	}
}

func TestRuleSet(t *testing.T) {
	long := "a_name_that_is_quite_long_indeed"
	for _, name := range []string{ruleSet("bank", false), ruleSet(long, true), ruleSet(long+"2", true)} {
		if len(name) > maxSetName || !strings.HasPrefix(name, setPrefix) {
			t.Errorf("%q", name)
		}
	}
	if ruleSet(long, false) == ruleSet(long+"2", false) || ruleSet("bank", true) != "braid_bank_6" {
		t.Error(ruleSet(long, false), ruleSet("bank", true))
	}
}
