// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"

	"braid/agent/kernel/syn"
	"braid/agent/plan"
)

// hold starts to answer held SYNs when they are to be held, and stops when
// they are not any more.
func (l *loop) hold(f *plan.Firewall) error {
	late := f != nil && f.Late
	switch {
	case late && l.unhold == nil:
		h, err := syn.Open()
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

// letGo ends the holding of SYNs. The next update may begin anew.
func (l *loop) letGo() {
	if l.unhold != nil {
		l.unhold()
		l.unhold = nil
	}
}
