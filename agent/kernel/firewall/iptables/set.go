// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"braid/agent/plan"
)

const (
	setPrefix = "braid_"
	// maxSetName is the kernel's limit (IPSET_MAXNAMELEN).
	maxSetName = 31
	// aliveTimeout is in seconds.
	aliveTimeout = 3
)

// aliveSet holds all addresses, by two halves because there is no prefix of
// length 0 in a set, while the agent lives.
func aliveSet(v6 bool) string { return setPrefix + "alive_" + digit(v6) }

// unreachedSet has the servers to which connections are forwarded for a while.
func unreachedSet(v6 bool) string { return setPrefix + "unreached_" + digit(v6) }

// errSetFull is the kernel's IPSET_ERR_HASH_FULL.
const errSetFull = nl.IPSetError(4352)

// unreachedMost is how many servers there are in it at the most.
const unreachedMost = 4096

// AddUnreached has connections to a server forwarded for a while instead of taken.
// That the set is full is no error.
func AddUnreached(dest netip.AddrPort, d time.Duration) error {
	e, timeout := unreachedEntry(dest), uint32(d/time.Second)
	e.Timeout, e.Replace = &timeout, true
	set := unreachedSet(dest.Addr().Is6())
	if err := netlink.IpsetAdd(set, e); err != nil && !errors.Is(err, errSetFull) {
		return fmt.Errorf("adding to %s: %w", set, err)
	}
	return nil
}

// IsUnreached says whether connections to a server are forwarded now.
func IsUnreached(dest netip.AddrPort) (bool, error) {
	in, err := netlink.IpsetTest(unreachedSet(dest.Addr().Is6()), unreachedEntry(dest))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return in, err
}

func unreachedEntry(dest netip.AddrPort) *netlink.IPSetEntry {
	port, tcp := dest.Port(), uint8(unix.IPPROTO_TCP)
	return &netlink.IPSetEntry{IP: dest.Addr().AsSlice(), Port: &port, Protocol: &tcp}
}

// Sets names those of a rule's domains as dnsmasq's option ipset does.
func Sets(rule string) string { return ruleSet(rule, false) + "," + ruleSet(rule, true) }

// ruleSet is the set of a rule's domains, which dnsmasq fills.
func ruleSet(rule string, v6 bool) string {
	name := setPrefix + rule + "_" + digit(v6)
	if len(name) <= maxSetName {
		return name
	}
	h := fnv.New32a()
	h.Write([]byte(rule))
	sum := hex.EncodeToString(h.Sum(nil))
	return setPrefix + rule[:maxSetName-len(setPrefix)-len(sum)-3] + "_" + sum + "_" + digit(v6)
}

func digit(v6 bool) string {
	if v6 {
		return "6"
	}
	return "4"
}

func setFamily(v6 bool) uint8 {
	if v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// wantedSets are the sets that rules refer to.
func wantedSets(f *plan.Firewall) (names []string) {
	if f == nil {
		return nil
	}
	for _, v6 := range []bool{false, true} {
		names = append(names, aliveSet(v6), unreachedSet(v6))
		for _, r := range f.Rules {
			if len(r.Domains) > 0 {
				names = append(names, ruleSet(r.Name, v6))
			}
		}
	}
	return names
}

// keepSets makes the sets that are missing, and says that the agent lives.
func keepSets(f *plan.Firewall) error {
	for _, v6 := range []bool{false, true} {
		timeout := uint32(aliveTimeout)
		if err := createSet(aliveSet(v6), "hash:net", netlink.IpsetCreateOptions{Family: setFamily(v6), Timeout: &timeout}); err != nil {
			return err
		}
		none := uint32(0) // but what is added has its own
		if err := createSet(unreachedSet(v6), "hash:ip,port", netlink.IpsetCreateOptions{Family: setFamily(v6), Timeout: &none, MaxElements: unreachedMost}); err != nil {
			return err
		}
		for _, half := range halves(v6) {
			e := netlink.IPSetEntry{IP: half, CIDR: 1, Timeout: &timeout, Replace: true}
			if err := netlink.IpsetAdd(aliveSet(v6), &e); err != nil {
				return fmt.Errorf("adding to %s: %w", aliveSet(v6), err)
			}
		}
		for _, r := range f.Rules {
			if len(r.Domains) == 0 {
				continue
			}
			if err := createSet(ruleSet(r.Name, v6), "hash:ip", netlink.IpsetCreateOptions{Family: setFamily(v6)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// InDomains says whether an address is among those of a rule's domains.
func InDomains(rule string, a netip.Addr) (bool, error) {
	in, err := netlink.IpsetTest(ruleSet(rule, a.Is6()), &netlink.IPSetEntry{IP: a.AsSlice()})
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return in, err
}

func halves(v6 bool) []net.IP {
	if v6 {
		return []net.IP{net.ParseIP("::"), net.ParseIP("8000::")}
	}
	return []net.IP{net.IPv4(0, 0, 0, 0).To4(), net.IPv4(128, 0, 0, 0).To4()}
}

// createSet is content with a set that is there.
func createSet(name, kind string, o netlink.IpsetCreateOptions) error {
	if err := netlink.IpsetCreate(name, kind, o); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("creating set %s: %w", name, err)
	}
	return nil
}

// dropSets destroys those of our sets that no rule refers to any more.
func dropSets(f *plan.Firewall) error {
	all, err := listSets()
	if err != nil {
		return fmt.Errorf("listing sets: %w", err)
	}
	wanted := wantedSets(f)
	var errs []error
	for _, name := range all {
		if !strings.HasPrefix(name, setPrefix) || slices.Contains(wanted, name) {
			continue
		}
		if err := destroySet(name); err != nil {
			errs = append(errs, fmt.Errorf("destroying set %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// listSets lists the names of all sets, and not what is in them.
func listSets() (names []string, err error) {
	const (
		headerLen    = 4 // struct nfgenmsg
		listSetNames = 2 // IPSET_FLAG_LIST_SETNAME
	)
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_IPSET<<8|nl.IPSET_CMD_LIST, unix.NLM_F_DUMP)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_NETLINK, Version: nl.NFNETLINK_V0})
	r.AddData(nl.NewRtAttr(nl.IPSET_ATTR_PROTOCOL, nl.Uint8Attr(nl.IPSET_PROTOCOL)))
	r.AddData(nl.NewRtAttr(nl.IPSET_ATTR_FLAGS|int(nl.NLA_F_NET_BYTEORDER), nl.BEUint32Attr(listSetNames)))
	msgs, err := r.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil, nil // this kernel has no sets
	}
	for _, m := range msgs {
		if len(m) < headerLen {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[headerLen:])
		if err != nil {
			return nil, err
		}
		for _, a := range attrs {
			if a.Attr.Type == nl.IPSET_ATTR_SETNAME {
				names = append(names, nl.BytesToString(a.Value))
			}
		}
	}
	return names, err
}

// destroySet waits for the rules that refer to the set, which the kernel frees
// a little after they are deleted.
func destroySet(name string) (err error) {
	for range 20 {
		if err = netlink.IpsetDestroy(name); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
