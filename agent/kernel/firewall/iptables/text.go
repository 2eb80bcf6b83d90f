// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"braid/agent/config"
	"braid/agent/plan"
)

// Marks with their masks.
const (
	allBits     = plan.MarkIntercept | plan.MarkWAN
	intercepted = plan.MarkIntercept
	// refused is the mark that takes a packet from the chain which judges it to
	// the one that may reject it. It is that of our sockets towards the LAN,
	// whose packets are not forwarded.
	refused = plan.MarkLAN
)

func mark(value, mask uint32) string { return fmt.Sprintf("%#x/%#x", value, mask) }

// text is what iptables-restore takes.
type text struct {
	strings.Builder
	v6 bool
}

// chain is one of ours, without its prefix.
type chain struct {
	name  string
	rules []string
}

func (t *text) table(name string, chains ...chain) {
	fmt.Fprintf(t, "*%s\n", name)
	for _, c := range chains {
		fmt.Fprintf(t, ":%s%s - [0:0]\n", prefix, c.name)
	}
	for _, c := range chains {
		for _, r := range c.rules {
			fmt.Fprintf(t, "-A %s%s %s\n", prefix, c.name, r)
		}
	}
	t.WriteString("COMMIT\n")
}

// declares says whether a text has a chain.
func declares(text, table, chain string) bool {
	_, text, _ = strings.Cut("\n"+text, "\n*"+table+"\n")
	text, _, _ = strings.Cut(text, "\nCOMMIT")
	return strings.Contains("\n"+text, "\n:"+chain+" ")
}

// Text is what one family's tables are to hold for a plan. Where it differs
// from the ruleset of package nft, it is because xtables knows REJECT in the
// table filter alone, and because what filter accepts passes no more chains:
// hence a SYN is marked before the firewall has judged it, and duplicated
// after.
func Text(f plan.Firewall, v6 bool) string {
	t := &text{v6: v6}
	t.table("raw",
		chain{"PREROUTING", each(f.LANDevices, "-i %s -p tcp -j BRAID_OWN")},
		chain{"OWN", []string{
			"-m socket --transparent -j MARK --set-xmark " + mark(intercepted, intercepted),
			"-m mark --mark " + mark(intercepted, intercepted) + " -j CT --notrack",
		}},
		chain{"OUTPUT", []string{"-m mark --mark " + mark(plan.MarkLAN, allBits) + " -j CT --notrack"}},
	)
	mangle := []chain{
		{"PREROUTING", t.prerouting(f)},
		{"AGAIN", append(t.again(f), "-g "+prefix+proxyChain(config.PathAuto))},
		{"INBOUND", t.inbound(f)},
		{"STEER", append(t.pins(f.Rules), "-g BRAID_SHARE")},
		{"SHARE", append(t.public(f), t.shares(f)...)},
		{"FORWARD", t.forward(f)},
		{"LAN", eachDevice(f, "-o %s -m conntrack --ctstate NEW,UNTRACKED -j BRAID_RULES")},
		{"RULES", append(t.paths(f.Rules), "-g BRAID_UNRULED")},
		{"UNRULED", t.unruled(f)},
		{"REFUSE", []string{"-j MARK --set-xmark " + mark(refused, allBits)}},
		{"CANDIDATE", t.candidate(f)},
		{"CONVERT", choose(plan.MarkConvert)},
		{"DIRECT", choose(plan.MarkDirect)},
		{"OUTPUT", []string{fmt.Sprintf("-m mark --mark %s -m conntrack --ctdir REPLY -m connmark ! --mark %s -j CONNMARK --restore-mark --nfmask %#x --ctmask %#x",
			mark(0, ^uint32(0)), mark(0, plan.MarkWAN), plan.MarkWAN, plan.MarkWAN)}},
		{"POSTROUTING", eachDevice(f, "-o %s -p tcp -m mark --mark "+mark(intercepted, intercepted)+" -j BRAID_DUP")},
		{"DUP", []string{"-j TEE --gateway " + t.loopback() + " --oif lo", "-j DROP"}},
	}
	for i, v := range plan.Verdicts {
		mangle = append(mangle, chain{proxyChain(v.Path), []string{
			fmt.Sprintf("-p tcp -j TPROXY --on-port %d --on-ip %s", f.Ports[i], t.loopback()),
		}})
	}
	for _, w := range f.WANs {
		mangle = append(mangle, chain{wanChain(w.Mark), []string{"-j MARK --set-xmark " + mark(w.Mark, plan.MarkWAN)}})
	}
	t.table("mangle", mangle...)
	t.table("filter",
		chain{"INPUT", []string{"-m mark --mark " + mark(intercepted, intercepted) + " -j ACCEPT"}},
		chain{"OUTPUT", t.dead(f)},
		chain{"FORWARD", append(t.translated(f, "-i %[1]s -j ACCEPT"),
			"-m mark ! --mark "+mark(refused, allBits)+" -j RETURN",
			"-p tcp -j REJECT --reject-with tcp-reset",
			"-j REJECT --reject-with "+map[bool]string{false: "icmp-admin-prohibited", true: "icmp6-adm-prohibited"}[v6],
		)},
	)
	if rules := translations(f); v6 && len(rules) > 0 {
		t.table("nat", chain{"POSTROUTING", rules})
	}
	return t.String()
}

func (t *text) prerouting(f plan.Firewall) []string {
	// A SYN that is sent again, or that follows a connection of the same ports,
	// must not be forwarded. The one finds its socket in any case; for the other
	// the rules hold in AGAIN.
	rules := each(f.LANDevices, "-i %s -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m mark --mark "+mark(intercepted, intercepted)+" -g BRAID_AGAIN")
	accepted := uint32(0)
	if f.Late {
		accepted = plan.MarkAccepted
	}
	for _, v := range plan.Verdicts {
		rules = append(rules, fmt.Sprintf("-i lo -p tcp -m mark --mark %s -g %s%s", mark(v.Mark|accepted, allBits), prefix, proxyChain(v.Path)))
	}
	if f.Late {
		rules = append(rules, "-i lo -p tcp -m mark --mark "+mark(intercepted, intercepted)+" -j DROP")
	}
	rules = append(rules, "-m mark ! --mark "+mark(0, allBits)+" -j RETURN")
	rules = append(rules, t.theirs(f)...)
	rules = append(rules, eachDevice(f, "-i %s -g BRAID_INBOUND")...)
	rules = append(rules,
		fmt.Sprintf("-j CONNMARK --restore-mark --nfmask %#x --ctmask %#x", plan.MarkWAN, plan.MarkWAN),
		"-m mark ! --mark "+mark(0, plan.MarkWAN)+" -j RETURN")
	for _, w := range f.WANs {
		for _, a := range w.Addrs { // flows that are older than we
			if a.Is6() == t.v6 {
				rules = append(rules,
					fmt.Sprintf("-m conntrack --ctstate RELATED,ESTABLISHED --ctrepldst %v -g %s%s", a, prefix, wanChain(w.Mark)),
					fmt.Sprintf("-m conntrack --ctstate RELATED,ESTABLISHED --ctorigdst %v -g %s%s", a, prefix, wanChain(w.Mark)))
			}
		}
	}
	rules = append(rules, "-m conntrack ! --ctstate NEW -j RETURN", "-m addrtype ! --dst-type UNICAST -j RETURN")
	return append(rules, each(f.LANDevices, "-i %s -g BRAID_STEER")...)
}

// theirs are the packets that somebody else has decided about: by a mark, by a
// rule for where they come from or go to, by the family's default route.
func (t *text) theirs(f plan.Firewall) []string {
	family := f.Family(t.v6)
	if family.Left {
		return []string{"-j RETURN"}
	}
	rules := []string{"-m mark ! --mark " + mark(0, plan.MarkForeign) + " -j RETURN"}
	for _, g := range family.Guests {
		var in, src, dst string
		if g.In != "" {
			in = "-i " + g.In
		}
		if g.Source.IsValid() {
			src = "-s " + g.Source.String()
		}
		if g.Dest.IsValid() {
			dst = "-d " + g.Dest.String()
		}
		for _, p := range ports(g) {
			rules = append(rules, join(in, src, dst, p, "-j RETURN"))
		}
	}
	return rules
}

// ports are the ways to match a selector's protocol and port.
func ports(g plan.Selector) (matches []string) {
	protos := []int{g.Proto}
	if g.Proto == 0 && g.Port.Last != 0 {
		protos = []int{unix.IPPROTO_TCP, unix.IPPROTO_UDP}
	}
	for _, p := range protos {
		switch {
		case p == 0:
			matches = append(matches, "")
		case g.Port.Last == 0:
			matches = append(matches, fmt.Sprintf("-p %d", p))
		case p == unix.IPPROTO_TCP:
			matches = append(matches, fmt.Sprintf("-p tcp -m tcp --dport %d:%d", g.Port.First, g.Port.Last))
		case p == unix.IPPROTO_UDP:
			matches = append(matches, fmt.Sprintf("-p udp -m udp --dport %d:%d", g.Port.First, g.Port.Last))
		}
	}
	return matches
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " ")
}

func (t *text) inbound(f plan.Firewall) []string {
	return append([]string{
		"-m conntrack ! --ctstate NEW -j RETURN",
		"-m connmark ! --mark " + mark(0, plan.MarkWAN) + " -j RETURN",
	}, t.inFlows(f)...)
}

func (t *text) forward(f plan.Firewall) []string {
	return slices.Concat(
		t.translated(f, "-d %[2]v -m conntrack --ctstate NEW -j DROP"), // a translator takes answers alone
		when(f.IPsec, "-m policy --dir out --pol ipsec -j RETURN"),
		t.theirs(f),
		outFlows(f),
		each(f.LANDevices, "-i %s -j BRAID_LAN"))
}

func (t *text) unruled(f plan.Firewall) (rules []string) {
	if f.BlockQUIC {
		rules = append(rules, "-p udp -m udp --dport 443 -g BRAID_REFUSE")
	}
	return append(append(rules, "-p tcp -g BRAID_CANDIDATE"), each(f.Family(t.v6).Spared, "-o %s -g BRAID_REFUSE")...)
}

// signed leads connections back whose ends sign their addresses.
func signed() (rules []string) {
	for _, kind := range plan.Signed {
		rules = append(rules, fmt.Sprintf("-p tcp -m tcp --tcp-option %d -j RETURN", kind))
	}
	return rules
}

func (t *text) candidate(f plan.Firewall) []string {
	rules := []string{
		"-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN",
		"-m conntrack --ctstate DNAT -j RETURN",
	}
	if f.PassMPTCP {
		rules = append(rules, "-p tcp -m tcp --tcp-option 30 -j RETURN")
	} else {
		// A host that speaks MPTCP itself adds a subflow to a connection of its
		// own: MP_JOIN of a SYN, 12 bytes, backup or not (RFC 8684, 3.2).
		for _, join := range []string{"1e0c10", "1e0c11"} {
			rules = append(rules, fmt.Sprintf(`-p tcp -m string --hex-string "|%s|" --algo bm --from %d --to %d -j RETURN`,
				join, t.headerLen()+20, t.headerLen()+60))
		}
	}
	rules = append(rules, signed()...)
	rules = append(rules, fmt.Sprintf("-p tcp -m tcp --sport 1:%d -j RETURN", plan.Privileged-1),
		fmt.Sprintf("-m bpf --bytecode %q -j RETURN", t.fewHops()))
	for _, p := range f.Helped {
		rules = append(rules, fmt.Sprintf("-p tcp -m tcp --dport %d:%d -j RETURN", p.First, p.Last))
	}
	rules = append(rules, fmt.Sprintf("-p tcp -m set --match-set %s dst,dst -j RETURN", unreachedSet(t.v6)))
	for _, p := range append(append([]netip.Prefix(nil), f.LAN...), f.Access...) {
		if p.Addr().Is6() == t.v6 {
			rules = append(rules, fmt.Sprintf("-d %v -j RETURN", p))
		}
	}
	for _, a := range f.Converters {
		if a.Is6() == t.v6 {
			rules = append(rules, fmt.Sprintf("-d %v -j RETURN", netip.PrefixFrom(a, a.BitLen())))
		}
	}
	for _, a := range f.Crowd {
		if a.Is6() == t.v6 {
			rules = append(rules, fmt.Sprintf("-s %v -j RETURN", netip.PrefixFrom(a, a.BitLen())))
		}
	}
	if f.Drain || !f.Family(t.v6).Take {
		return rules
	}
	return append(rules, fmt.Sprintf("-m set --match-set %s src -j MARK --set-xmark %s", aliveSet(t.v6), mark(intercepted, allBits)))
}

// dead ends the host's own TCP over dead legs, as that of package nft does.
func (t *text) dead(f plan.Firewall) (rules []string) {
	for _, l := range f.Dead {
		sources := []string{""}
		if len(l.Addrs) > 0 {
			sources = nil
		}
		for _, a := range l.Addrs {
			sources = append(sources, fmt.Sprintf("-s %v ", netip.PrefixFrom(a, a.BitLen())))
		}
		for _, from := range sources {
			if l.IPv6 == t.v6 {
				rules = append(rules, fmt.Sprintf("-o %s %s-p tcp -m tcp --tcp-flags SYN,RST NONE -m conntrack --ctdir ORIGINAL -m mark --mark %s -m tcp ! --tcp-option 30 -j REJECT --reject-with tcp-reset",
					l.Device, from, mark(0, plan.MarkForeign)))
			}
		}
	}
	return rules
}

// choose is a path for what is a candidate.
func choose(path uint32) []string {
	return []string{
		"-j BRAID_CANDIDATE",
		fmt.Sprintf("-m mark --mark %s -j MARK --set-xmark %s", mark(intercepted, allBits), mark(path, plan.MarkWAN)),
	}
}

func translations(f plan.Firewall) (rules []string) {
	for _, w := range f.WANs {
		for _, t := range w.Translate {
			to := "MASQUERADE"
			if t.To.IsValid() {
				to = fmt.Sprintf("NETMAP --to %v", t.To)
			}
			rules = append(rules, fmt.Sprintf("-s %v -o %s -j %s", t.From, t.Device, to))
		}
	}
	return rules
}

func (t *text) loopback() string {
	if t.v6 {
		return "::1"
	}
	return "127.0.0.1"
}

// headerLen is that of IP, in bytes.
func (t *text) headerLen() int {
	if t.v6 {
		return 40
	}
	return 20
}

// translated formats device and inner address of each translator.
func (t *text) translated(f plan.Firewall, format string) (rules []string) {
	if !t.v6 {
		return nil
	}
	for _, c := range f.CLATs {
		r := strings.ReplaceAll(format, "%[1]s", c.Device)
		rules = append(rules, strings.ReplaceAll(r, "%[2]v", netip.PrefixFrom(c.Inner, 128).String()))
	}
	return rules
}

func proxyChain(p config.Path) string { return "PROXY_" + string(p) }

func wanChain(m uint32) string { return fmt.Sprintf("WAN%d", m/(plan.MarkWAN&-plan.MarkWAN)) }

func when(on bool, rule string) []string {
	if !on {
		return nil
	}
	return []string{rule}
}

func each(devices []string, format string) (rules []string) {
	for _, d := range devices {
		rules = append(rules, fmt.Sprintf(format, d))
	}
	return rules
}

// inFlows tell by which WAN a flow has come in: by the device or, where WANs
// share one, by the address.
func (t *text) inFlows(f plan.Firewall) (rules []string) {
	for _, w := range f.WANs {
		set := " -j CONNMARK --set-xmark " + mark(w.Mark, plan.MarkWAN)
		for _, d := range w.Devices {
			if !isShared(f, d) {
				rules = append(rules, "-i "+d+set)
				continue
			}
			for _, a := range w.Addrs {
				if a.Is6() == t.v6 {
					rules = append(rules, fmt.Sprintf("-i %s -d %v%s", d, a, set))
				}
			}
		}
	}
	return rules
}

// outFlows tell by which WAN a flow leaves: by the device or, where WANs share
// one, by the mark.
func outFlows(f plan.Firewall) (rules []string) {
	for _, w := range f.WANs {
		for _, d := range w.Devices {
			marked := ""
			if isShared(f, d) {
				marked = " -m mark --mark " + mark(w.Mark, plan.MarkWAN)
			}
			rules = append(rules, fmt.Sprintf("-o %s%s -m connmark --mark %s -j CONNMARK --set-xmark %s", d, marked, mark(0, plan.MarkWAN), mark(w.Mark, plan.MarkWAN)))
		}
	}
	return rules
}

func isShared(f plan.Firewall, device string) bool {
	n := 0
	for _, w := range f.WANs {
		if slices.Contains(w.Devices, device) {
			n++
		}
	}
	return n > 1
}

// eachDevice formats the WANs' devices, each once.
func eachDevice(f plan.Firewall, format string) (rules []string) {
	var devices []string
	for _, w := range f.WANs {
		for _, d := range w.Devices {
			if !slices.Contains(devices, d) {
				devices = append(devices, d)
			}
		}
	}
	return each(devices, format)
}
