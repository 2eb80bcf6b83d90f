// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"braid/onpath/checksum"
	"braid/onpath/nft"
	"braid/onpath/tun"
)

//	packets  +------ this namespace ------+
//	---------> lan0, lan1 -> wan0, wan1   |
//	         +------- @seen at postrouting+
//
// Each packet is a new flow, and its port says which.
type router struct {
	lans  map[string]*tun.Device
	flows []Flow
	port  uint16
}

var (
	lanDevices = []string{"lan0", "lan1"}
	wanDevices = []string{"wan0", "wan1"}
)

func run(t testing.TB, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func newRouter(t testing.TB) *router {
	t.Helper()
	r := &router{lans: make(map[string]*tun.Device), port: 1}
	for i, name := range slices.Concat(lanDevices, wanDevices) {
		d, err := tun.Open(name, 1500)
		if err == nil {
			t.Cleanup(func() { d.Close() })
			err = d.Up(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}))
		}
		if err != nil {
			t.Fatal(err)
		}
		r.lans[name] = d
		run(t, fmt.Sprintf("ip route add 10.0.%d.0/24 dev %s; ip -6 route add fd00:%d::/64 dev %s", i, name, i, name))
	}
	run(t, `echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
		nft "table inet seen { set seen { type inet_service; flags dynamic; size 65535; }
			chain postrouting { type filter hook postrouting priority 300; udp sport 9 add @seen { udp dport }; }; }"`)
	t.Cleanup(func() { run(t, "nft flush ruleset") })
	for _, in := range lanDevices {
		for _, out := range wanDevices {
			r.flows = append(r.flows, Flow{in, out, false}, Flow{in, out, true})
		}
	}
	return r
}

// forwarded sends a packet of each flow, and says of which it got through.
func (r *router) forwarded(t testing.TB) map[Flow]bool {
	t.Helper()
	run(t, "nft flush set inet seen seen")
	ports := make(map[uint16]Flow)
	for _, f := range r.flows {
		r.port++
		ports[r.port] = f
		if _, err := r.lans[f.In].Write(packet(f, r.port)); err != nil {
			t.Fatal(err)
		}
	}
	through := make(map[Flow]bool)
	_, elements, _ := strings.Cut(run(t, "nft -n list set inet seen seen"), "elements = {")
	for _, word := range strings.FieldsFunc(elements, func(c rune) bool { return c < '0' || c > '9' }) {
		port, err := strconv.ParseUint(word, 10, 16)
		f, ok := ports[uint16(port)]
		if err != nil || !ok {
			t.Fatalf("port %s is nobody's", word)
		}
		through[f] = true
	}
	return through
}

// packet is a UDP datagram from a host behind a flow's first device to one
// behind its second.
func packet(f Flow, port uint16) []byte {
	at := func(device string) netip.Addr {
		i := byte(slices.Index(slices.Concat(lanDevices, wanDevices), device))
		if f.IPv6 {
			return netip.AddrFrom16([16]byte{0: 0xfd, 3: i, 15: 2})
		}
		return netip.AddrFrom4([4]byte{10, 0, i, 2})
	}
	src, dst := at(f.In).AsSlice(), at(f.Out).AsSlice()
	const proto, length = 17, 8
	udp := []byte{0, 9, byte(port >> 8), byte(port), 0, length, 0, 0}
	binary.BigEndian.PutUint16(udp[6:], checksum.Of(checksum.Sum(src)+checksum.Sum(dst)+checksum.Pseudo(length, proto)+checksum.Sum(udp)))
	if f.IPv6 {
		return slices.Concat([]byte{0x60, 0, 0, 0, 0, length, proto, 64}, src, dst, udp)
	}
	ip := slices.Concat([]byte{0x45, 0, 0, 20 + length, 0, 0, 0, 0, 64, proto, 0, 0}, src, dst)
	binary.BigEndian.PutUint16(ip[10:], checksum.Of(checksum.Sum(ip)))
	return append(ip, udp...)
}

// check says whether what Read tells is what becomes of packets, and how often
// it can tell.
func (r *router) check(t testing.TB) (sure int) {
	t.Helper()
	rules, err := Read(t.Context(), lanDevices, wanDevices)
	if err != nil {
		t.Fatal(err)
	}
	through := r.forwarded(t)
	for _, f := range r.flows {
		v := rules.Verdicts[f]
		if v == Accepts && !through[f] || v == Drops && through[f] {
			t.Errorf("%+v: %v, and got through: %v, with\n%s", f, v, through[f], run(t, "nft -s -t list ruleset"))
		}
		if v != Either {
			sure++
		}
	}
	return sure
}

func TestRead(t *testing.T) {
	r := newRouter(t)
	flow := func(in, out string, v6 bool) Flow { return Flow{in, out, v6} }
	all := func(v Verdict) map[Flow]Verdict {
		m := make(map[Flow]Verdict)
		for _, f := range r.flows {
			m[f] = v
		}
		return m
	}
	with := func(m map[Flow]Verdict, v Verdict, flows ...Flow) map[Flow]Verdict {
		for _, f := range flows {
			m[f] = v
		}
		return m
	}
	wan1 := []Flow{flow("lan0", "wan1", false), flow("lan0", "wan1", true), flow("lan1", "wan1", false), flow("lan1", "wan1", true)}
	for _, tt := range []struct {
		name, up, down string
		want           map[Flow]Verdict
	}{
		{"no firewall", "", "", all(Accepts)},
		{"a WAN in no zone", `nft -f - <<.
			table inet fw4 {
				chain forward {
					type filter hook forward priority filter; policy drop;
					ct state vmap { established : accept, related : accept }
					iifname { "lan0", "lan1" } jump forward_lan comment "!fw4: Handle lan IPv4/IPv6 forward traffic"
				}
				chain forward_lan { 
					oifname "wan0" counter accept comment "!fw4: accept wan IPv4/IPv6 traffic"
				}
			}
.`, "nft delete table inet fw4", with(all(Accepts), Drops, wan1...)},
		{"iptables for nftables", `iptables-nft -w -P FORWARD DROP; iptables-nft -w -A FORWARD -i lan+ ! -o wan1 -m comment --comment "-j DROP" -j ACCEPT
			ip6tables-nft -w -A FORWARD -o wan1 -j REJECT`,
			"nft delete table ip filter; nft delete table ip6 filter", with(all(Accepts), Drops, wan1...)},
		{"legacy iptables", `iptables-legacy -w -P FORWARD DROP; iptables-legacy -w -A FORWARD -i lan+ ! -o wan1 -m comment --comment "-j DROP" -j ACCEPT
			ip6tables-legacy -w -A FORWARD -o wan1 -j REJECT`,
			"iptables-legacy -w -P FORWARD ACCEPT; iptables-legacy -w -F; ip6tables-legacy -w -F", with(all(Accepts), Drops, wan1...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, tt.up)
			defer run(t, ":\n"+tt.down)
			got, err := Read(t.Context(), lanDevices, wanDevices)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range r.flows {
				if got.Verdicts[f] != tt.want[f] {
					t.Errorf("%+v: %v, want %v", f, got.Verdicts[f], tt.want[f])
				}
			}
			r.check(t)
		})
	}
	if _, err := Read(t.Context(), nil, nil); err != nil {
		t.Error(err)
	}
	before := names(t)
	if _, err := Read(t.Context(), lanDevices, wanDevices); err != nil || names(t) != before {
		t.Errorf("reading makes tables: %q from %q, %v", names(t), before, err)
	}
}

// Whoever asks for a helper of connection tracking is heard, in each of the
// filter's three languages.
func TestHelpers(t *testing.T) {
	newRouter(t)
	for _, tt := range []struct {
		name, up, down string
		want           []Ports
	}{
		{"nobody", "", "", nil},
		{"nftables", `nft -f - <<.
			table inet fw4 {
				ct helper ftp { type "ftp" protocol tcp; }
				ct helper tftp { type "tftp" protocol udp; }
				chain helper_lan {
					tcp dport 21 ct helper set "ftp" comment "!fw4: FTP passive connection tracking"
					udp dport 69 ct helper set "tftp"
					meta l4proto tcp th dport { 2100, 2110-2119 } ct helper set "ftp"
					ct helper set tcp dport map { 2121 : "ftp", 2122 : "ftp" }
					tcp dport 22 ct mark set 5
				}
			}
.`, "nft delete table inet fw4", []Ports{{21, 21}, {2100, 2100}, {2110, 2119}, {2121, 2121}, {2122, 2122}}},
		{"iptables for nftables", "iptables-nft -w -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp",
			"nft delete table ip raw", []Ports{{21, 21}}},
		{"legacy iptables", `iptables-legacy -w -t raw -A PREROUTING -p tcp --dport 21 -m comment --comment "-j CT" -j CT --helper ftp
			iptables-legacy -w -t raw -A PREROUTING -p udp --dport 69 -j CT --helper tftp
			iptables-legacy -w -t raw -A PREROUTING -p tcp --dport 22 -j CT --notrack
			ip6tables-legacy -w -t raw -A PREROUTING -p tcp -m multiport --dports 21,2110:2119 -j CT --helper ftp`,
			"iptables-legacy -w -t raw -F; ip6tables-legacy -w -t raw -F", []Ports{{21, 21}, {2110, 2119}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, tt.up)
			defer run(t, ":\n"+tt.down)
			got, err := Read(t.Context(), nil, nil)
			if err != nil || !slices.Equal(got.Helpers, tt.want) {
				t.Errorf("%v, %v, want %v", got.Helpers, err, tt.want)
			}
		})
	}
}

// names are the legacy tables.
func names(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/net/ip_tables_names")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// TestKernelAgrees makes rulesets up and compares what is told of them with what
// the kernel does.
func TestKernelAgrees(t *testing.T) {
	r := newRouter(t)
	const rulesets = 60
	rng := rand.New(rand.NewPCG(1, 0))
	sure := 0
	for n := 0; n < rulesets; {
		if _, err := nft.Run(t.Context(), ruleset(rng), "-f", "-"); err != nil {
			continue // it asks for IPv4 and IPv6 at once
		}
		n++
		sure += r.check(t)
		run(t, "nft delete table inet a; nft delete table ip b")
		if t.Failed() {
			break
		}
	}
	if all := rulesets * len(r.flows); sure < all/4 && !t.Failed() {
		t.Errorf("of %d flows %d could be told", all, sure)
	} else {
		t.Logf("of %d flows %d could be told", all, sure)
	}
}

func ruleset(rng *rand.Rand) string {
	one := func(of ...string) string { return of[rng.IntN(len(of))] }
	name := func() string { return one(`"lan0"`, `"lan1"`, `"wan0"`, `"wan1"`, `"lan*"`, `"wan*"`) }
	whole := func() string { return one(`"lan0"`, `"lan1"`, `"wan0"`, `"wan1"`) }
	verdict := func(chain int) string {
		if chain < 4 && rng.IntN(2) == 0 { // calls go one way
			return fmt.Sprintf("%s c%d", one("jump", "goto"), chain+1+rng.IntN(4-chain))
		}
		return one("accept", "drop", "return", "continue")
	}
	match := func() string {
		switch rng.IntN(12) {
		case 0, 1:
			return one("iifname", "oifname") + one(" ", " != ") + name()
		case 2:
			return one("iifname", "oifname") + one(" ", " != ") + "{ " + whole() + ", " + `"eth0"` + " }"
		case 3:
			return "iifname . oifname" + one(" ", " != ") + fmt.Sprintf("{ %s . %s, %s . %s }", whole(), whole(), `"eth0"`, whole())
		case 4:
			return "ct state " + one("new", "established", "!= new", "!= established", "established,related", "new,related", "! new", "! established",
				"{ new, established }", "!= { new, established }", "!= { established, related }", "!= established,related", "!= new,related", "invalid", "untracked")
		case 5:
			return "meta nfproto " + one("ipv4", "ipv6", "!= ipv4", "{ ipv4, ipv6 }")
		case 6:
			return "meta protocol " + one("ip", "ip6", "!= ip6")
		case 7:
			return "ct status " + one("dnat", "!= dnat", "! dnat", "snat", "dnat,snat", "confirmed")
		case 8:
			return "ct direction " + one("original", "reply", "!= reply")
		case 9:
			return one("iif", "oif") + one(" ", " != ") + whole()
		case 10:
			return one("udp dport 1-1000", "ip saddr 10.0.0.2", "ip6 daddr fd00:2::/64", "ip daddr != 10.0.3.0/24", "meta mark 0", "meta l4proto tcp", "meta l4proto != icmp", "meta l4proto != { icmpv6, icmp }", "ct original ip saddr 10.0.0.2", "udp sport . ip daddr { 9 . 10.0.2.2 }", "limit rate 1/second",
				"iifname @some", "counter", "log level debug", "meta mark set 0", "ct state & new != 0", "iifname . udp sport { \"lan0\" . 9 }", "fib daddr . iif type local")
		}
		return ""
	}
	vmap := func(chain int) string {
		switch rng.IntN(5) {
		case 0:
			return fmt.Sprintf("ct state vmap { established : %s, new : %s, invalid : %s }", verdict(chain), verdict(chain), verdict(chain))
		case 1:
			return fmt.Sprintf(`iifname vmap { "lan0" : %s, "eth0" : %s, "wan0" : drop }`, verdict(chain), verdict(chain))
		case 2:
			return fmt.Sprintf(`iifname . oifname vmap { "lan0" . "wan0" : %s, "lan1" . "wan0" : %s, "lan0" . "wan1" : %s }`, verdict(chain), verdict(chain), verdict(chain))
		case 3:
			return fmt.Sprintf("meta nfproto vmap { ipv4 : %s, ipv6 : %s }", verdict(chain), verdict(chain))
		}
		return fmt.Sprintf("udp sport vmap { 9 : %s, 10 : %s }", verdict(chain), verdict(chain))
	}
	rules := func(chain int) string {
		var b strings.Builder
		for range rng.IntN(6) {
			then := verdict(chain)
			switch rng.IntN(6) {
			case 0:
				then = vmap(chain)
			case 1:
				then = one("reject", "counter", "reject with icmpx admin-prohibited", "reject with icmp port-unreachable", "reject with icmpv6 admin-prohibited", "reject with tcp reset", "counter drop", "log prefix \"x accept\" accept")
			}
			r := fmt.Sprintf("%s %s %s", match(), match(), then)
			if strings.Contains(r, "meta protocol") && strings.Contains(r, "reject") {
				continue // nft lists what nothing matches as what much does: "meta protocol ip6 reject with icmp port-unreachable"
			}
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		return b.String()
	}
	var b strings.Builder
	b.WriteString("table inet a {\n\tset some {\n\t\ttype ifname; elements = { \"lan0\" }\n\t}\n")
	for chain := 4; chain > 0; chain-- {
		fmt.Fprintf(&b, "\tchain c%d {\n%s\t}\n", chain, rules(chain))
	}
	fmt.Fprintf(&b, "\tchain forward {\n\t\ttype filter hook forward priority %d; policy %s;\n%s\t}\n", rng.IntN(9)-4, one("accept", "drop"), rules(0))
	fmt.Fprintf(&b, "}\ntable ip b {\n\tchain forward {\n\t\ttype filter hook forward priority 9; policy accept;\n\t\tiifname %s oifname %s %s\n\t}\n}\n",
		name(), name(), one("accept", "drop", "counter"))
	return b.String()
}

func BenchmarkRead(b *testing.B) {
	r := newRouter(b)
	b.Log(len(r.flows))
	run(b, "nft -f - <<'.'\n"+ruleset(rand.New(rand.NewPCG(1, 0)))+"\n.\n")
	for b.Loop() {
		if _, err := Read(b.Context(), lanDevices, wanDevices); err != nil {
			b.Fatal(err)
		}
	}
}
