// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package path

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Verdict is what a converter could not do for a server that was reached
// without it: a fact about the two of them, not about either.
type Verdict struct {
	Converter string
	Fault     Fault
}

// Fault is what came of a converter's attempt to reach a server.
type Fault int

// The faults.
const (
	FaultNone        Fault = iota
	FaultFamily            // the converter has no way out in the server's address family
	FaultNoRoute           // it has none to the server's network
	FaultUnreachable       // a router on its way says so, or prohibits it
	FaultRefused           // the server resets it
	FaultProhibited        // the converter does not connect to such servers
	FaultSilent            // the server does not answer it
)

// Incapable says that the converter cannot even try: that is no answer of
// the server's.
func (f Fault) Incapable() bool { return f == FaultFamily || f == FaultNoRoute }

func (v Verdict) String() string {
	switch v.Fault {
	case FaultFamily:
		return fmt.Sprintf("converter %s does not reach the server's address family", v.Converter)
	case FaultNoRoute:
		return fmt.Sprintf("converter %s has no route to the server", v.Converter)
	case FaultUnreachable:
		return fmt.Sprintf("the server is unreachable or prohibited from converter %s", v.Converter)
	case FaultRefused:
		return fmt.Sprintf("the server refuses converter %s", v.Converter)
	case FaultProhibited:
		return fmt.Sprintf("converter %s may not connect to the server", v.Converter)
	case FaultSilent:
		return fmt.Sprintf("the server does not answer converter %s", v.Converter)
	}
	return ""
}

const (
	// verdictTime is for how long a verdict holds; each time that it is found
	// true again right after, for twice as long, up to verdictMax.
	verdictTime = 10 * time.Minute
	verdictMax  = time.Hour
	// verdictPairs are remembered at most; more are forgotten all at once.
	verdictPairs = 4096
	// familyServers is how many servers of a family a converter must have no
	// route to, without having reached any since, until it counts as one that
	// lacks the family. It is for converters that do not say so themselves.
	familyServers = 3
)

// verdicts remembers verdicts for servers' addresses, whatever the port: who
// has one connection that leaves by the house's own address expects the next
// one (FTP's data) to come from there too. The zero value is ready.
type verdicts struct {
	mu       sync.Mutex
	pairs    map[pair]*held
	families map[family]*evidence
}

type pair struct {
	converter string
	server    netip.Addr
}

type held struct {
	fault  Fault
	until  time.Time
	lasted time.Duration
}

type family struct {
	converter string
	ipv6      bool
}

// evidence is what connections have shown of a converter's family.
type evidence struct {
	reached bool // since the last server that could not be
	missed  []netip.Addr
	at      time.Time // when the last one was missed
}

// Blame notes that a converter could not reach a server that answers without it.
func (v *verdicts) Blame(converter string, server netip.Addr, f Fault) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, now := pair{converter, server}, time.Now()
	h := v.pairs[k]
	if h == nil {
		if v.pairs == nil || len(v.pairs) >= verdictPairs {
			v.pairs = make(map[pair]*held)
		}
		h = new(held)
		v.pairs[k] = h
	}
	switch h.fault = f; {
	case now.Before(h.until): // one that was under way with the first
	case now.Sub(h.until) < verdictMax:
		h.lasted = min(2*h.lasted, verdictMax)
		h.until = now.Add(h.lasted)
	default:
		h.lasted = verdictTime
		h.until = now.Add(h.lasted)
	}
	if f != FaultNoRoute {
		return
	}
	e := v.evidenceLocked(family{converter, server.Is6()})
	if e.reached || now.Sub(e.at) > verdictMax {
		*e = evidence{}
	}
	if e.at = now; !slices.Contains(e.missed, server) && len(e.missed) < familyServers {
		e.missed = append(e.missed, server)
	}
}

// Acquit notes that a converter has reached a server.
func (v *verdicts) Acquit(converter string, server netip.Addr) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.pairs, pair{converter, server})
	*v.evidenceLocked(family{converter, server.Is6()}) = evidence{reached: true}
}

// Forget drops all that is held against a converter: it does not answer or
// serve us, which may be why it seemed to fail, and may come back as another.
func (v *verdicts) Forget(converter string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.DeleteFunc(v.pairs, func(k pair, _ *held) bool { return k.converter == converter })
	maps.DeleteFunc(v.families, func(f family, _ *evidence) bool { return f.converter == converter })
}

func (v *verdicts) evidenceLocked(f family) *evidence {
	e := v.families[f]
	if e == nil {
		if v.families == nil {
			v.families = make(map[family]*evidence)
		}
		e = new(evidence)
		v.families[f] = e
	}
	return e
}

// Verdicts are those that hold for a server now, on the given converters.
func (v *verdicts) Verdicts(server netip.Addr, converters []Converter) (vs []Verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range converters {
		h := v.pairs[pair{c.Name, server}]
		switch {
		case v.reachesLocked(c.Name, server.Is6()) == No:
			vs = append(vs, Verdict{c.Name, FaultFamily})
		case h != nil && time.Now().Before(h.until):
			vs = append(vs, Verdict{c.Name, h.fault})
		}
	}
	return vs
}

// Reaches says what connections have shown of whether a converter reaches
// servers of a family.
func (v *verdicts) Reaches(converter string, ipv6 bool) Tri {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.reachesLocked(converter, ipv6)
}

func (v *verdicts) reachesLocked(converter string, ipv6 bool) Tri {
	e := v.families[family{converter, ipv6}]
	switch {
	case e == nil:
		return Unknown
	case e.reached:
		return Yes
	case len(e.missed) >= familyServers && time.Since(e.at) < verdictTime:
		return No
	}
	return Unknown
}
