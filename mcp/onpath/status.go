// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import "braid/onpath/lend"

// Status is what a converter on the path does.
type Status struct {
	Open       int    `json:"open"`       // connections that are converted, now
	Converted  uint64 `json:"converted"`  // connections to servers without MPTCP
	Failed     uint64 `json:"failed"`     // of which the server was not reached then
	Up         uint64 `json:"up"`         // bytes of converted connections that have ended, from clients
	Down       uint64 `json:"down"`       // and to them
	Forwarded  uint64 `json:"forwarded"`  // connections to servers with MPTCP
	Remembered int    `json:"remembered"` // of those, now
	Announced  uint64 `json:"announced"`  // announcements of lent addresses
	Heard      uint64 `json:"heard"`      // that clients have acknowledged
	Joined     uint64 `json:"joined"`     // subflows that have joined
	Shown      uint64 `json:"shown"`      // packets that the packet filter has shown of forwarded connections
	Translated uint64 `json:"translated"` // packets, of which some are segments in one
	InKernel   bool   `json:"in_kernel"`  // the kernel translates TCP by itself
	Dropped    uint64 `json:"dropped"`    // packets that have no translation
}

// Status tells what goes on; nil: it does not stand on the path.
func (o *OnPath) Status() *Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.now.Interfaces) == 0 {
		return nil
	}
	s := &Status{
		Open:       o.sessions.count(),
		Converted:  o.sessions.converted.Load(),
		Failed:     o.sessions.failed.Load(),
		Up:         o.sessions.up.Load(),
		Down:       o.sessions.down.Load(),
		Translated: o.translated.Load(),
		Dropped:    o.dropped.Load(),
	}
	if o.edge != nil {
		s.InKernel = o.edge.program != nil
		s.Translated += o.edge.byKernel()
	}
	if o.judge == nil { // it leaves
		return s
	}
	o.lent.Do(func(t *lend.Table) { s.Remembered = t.Len() })
	s.Forwarded, s.Shown = o.lent.Stats.Connections.Load(), o.lent.Stats.Packets.Load()
	for _, l := range []*lending{o.lent, o.own} {
		s.Announced += l.Stats.Told.Load()
		s.Heard += l.Stats.Heard.Load()
		s.Joined += l.Stats.Joined.Load()
	}
	return s
}
