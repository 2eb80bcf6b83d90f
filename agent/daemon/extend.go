// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"path/filepath"

	"braid/agent/config"
	"braid/agent/extend"
	"braid/agent/plan"
)

// extension extends connections of LAN hosts until it is stopped.
type extension struct {
	*extend.Extender
	stop  context.CancelFunc
	doneC chan struct{} // closed when it has ended
}

// extend begins to extend connections when that is wanted and the packet filter
// can, says by which WANs, and stops when it is not wanted any more.
func (l *loop) extend(p plan.Plan) (problems config.Problems) {
	if p.Firewall == nil || p.Firewall.Extend == nil || p.Firewall.Drain {
		l.stopExtending()
		return nil
	}
	problem := func(message string) config.Problems {
		return config.Problems{{Section: "globals", Option: "lan_mptcp", Message: message, Warning: true}}
	}
	if p.Filter != config.FirewallNFTables {
		l.stopExtending()
		return problem("extend needs nftables: hosts that speak MPTCP are left alone")
	}
	if l.extension != nil {
		select {
		case <-l.extension.doneC: // it has failed
			l.extension = nil
			l.view.Extender.Store(nil)
		default:
		}
	}
	if l.extension == nil {
		e, err := extend.Open(l.log, filepath.Join(l.State, "connections"), &l.view.Extended)
		if err != nil {
			return problem("hosts that speak MPTCP are left alone: " + err.Error())
		}
		ctx, cancel := context.WithCancel(context.Background())
		x := &extension{e, cancel, make(chan struct{})}
		l.extension = x
		l.view.Extender.Store(e)
		go func() {
			defer close(x.doneC)
			if err := e.Run(ctx); err != nil {
				l.log.Error("extending connections", "error", err)
			}
		}()
	}
	l.extension.Set(*p.Firewall.Extend)
	return nil
}

// stopExtending leaves the connections as they are.
func (l *loop) stopExtending() {
	if l.extension != nil {
		l.extension.stop()
		<-l.extension.doneC
		l.extension = nil
		l.view.Extender.Store(nil)
	}
}
