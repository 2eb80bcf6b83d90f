// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"time"

	"braid/agent/config"
	"braid/agent/report"
)

const (
	// maxEvents may wait for ubus; more are dropped.
	maxEvents = 64
	// eventTimeout bounds the sending of one.
	eventTimeout = 2 * time.Second
)

// event is something that is told on ubus.
type event struct {
	name string
	data report.Told
}

func (d *Daemon) notifyConfig(ok bool, problems config.Problems) {
	d.send(report.ConfigEvent{OK: ok, Problems: report.Problems(problems)})
}

// send has an event told and remembered. It does not wait: the loop that calls
// it has to keep the packet filter believing in us.
func (d *Daemon) send(data report.Told) {
	entry := data.Entry()
	d.events.Add(time.Now(), entry)
	name := ObjectName + "." + entry.Type
	select {
	case d.eventC <- event{name, data}:
	default:
		d.log.Warn("event dropped, ubus is too slow", "event", name)
	}
}

// sendEvents tells listeners and subscribers until ctx ends; without a bus
// there are none.
func (d *Daemon) sendEvents(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-d.eventC:
			if s, _ := d.client.State(); s.Connected {
				d.tell(ctx, e)
			}
		}
	}
}

func (d *Daemon) tell(ctx context.Context, e event) {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	if err := d.client.Send(ctx, e.name, e.data); err != nil {
		d.log.Warn("sending event", "event", e.name, "error", err)
	}
	if err := d.object.Notify(ctx, e.name, e.data); err != nil {
		d.log.Warn("notifying", "event", e.name, "error", err)
	}
}
