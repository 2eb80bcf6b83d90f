// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package converter

import (
	"net/netip"
	"slices"

	"braid/agent/path"
)

// fullness is that of an address.
type fullness struct {
	backoff
	err error // says so; nil: it is not, any more
}

// busy is what says that an address is full; nil: it is not.
func (p *peer) busy(at netip.AddrPort) error {
	if f := p.full[at]; f != nil {
		return f.err
	}
	return nil
}

// state is what a way has come to: by those to an address that is full it is.
func (p *peer) state(w path.Way, a *asker) path.ConverterState {
	if s := a.answer.State; p.busy(w.Peer) == nil || s != path.ConverterUp && s != path.ConverterUnknown {
		return s
	}
	return path.ConverterFull
}

// fill notes that an address says that it is full.
func (p *peer) fill(at netip.AddrPort, why error) *fullness {
	f := p.full[at]
	if f == nil {
		f = new(fullness)
		p.full[at] = f
	}
	f.err = why
	return f
}

// askOthers has the other addresses asked which may be of the same mind now as
// that of an asker.
func (p *peer) askOthers(a *asker) {
	for w, o := range p.askers {
		if w.Peer != a.way.Peer && p.firstTo(o) && o.answer.State == path.ConverterUp && p.busy(w.Peer) == nil {
			o.ask()
		}
	}
}

// firstTo says whether a way is the first one to its address.
func (p *peer) firstTo(a *asker) bool {
	i := slices.IndexFunc(p.target.Ways, func(w Way) bool { return w.Peer == a.way.Peer })
	return p.target.Ways[i].Way == a.way
}
