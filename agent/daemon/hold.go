// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"

	"braid/agent/plan"
	"braid/onpath/syn"
)

// hold starts to answer held SYNs when they are to be held, and stops when
// they are not any more.
func (l *loop) hold(f *plan.Firewall) error {
	late := f != nil && f.Late
	switch {
	case late && l.unhold == nil:
		h, err := syn.Open(synMarks())
		if err != nil {
			return fmt.Errorf("holding SYNs: %w", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		l.unhold = cancel
		go func() {
			if err := l.proxy.Hold(ctx, h); err != nil {
				l.log.Error("holding SYNs", "error", err)
				select {
				case l.letGoC <- struct{}{}:
				case <-ctx.Done():
				}
			}
		}()
	case !late:
		l.letGo()
	}
	return nil
}

// synMarks are those of the SYNs that are held.
func synMarks() syn.Marks {
	m := syn.Marks{Mask: plan.MarkWAN | plan.MarkIntercept, Accepted: plan.MarkAccepted, Answer: plan.MarkLAN}
	for _, v := range plan.Verdicts {
		m.Ways = append(m.Ways, v.Mark)
	}
	return m
}

// letGo ends the holding of SYNs. The next update may begin anew.
func (l *loop) letGo() {
	if l.unhold != nil {
		l.unhold()
		l.unhold = nil
	}
}
