// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"path/filepath"

	"braid/agent/config"
	"braid/agent/netstate"
	"braid/agent/quota"
	"braid/agent/report"
	"braid/agent/status"
	"braid/agent/ubus"
)

const (
	// uciDir is the system's, as opposed to one of several agents'.
	uciDir = "/etc/config"
	// quotaDir is where the system's agent keeps what has to survive an upgrade.
	quotaDir = "/etc/braid"
)

// quotaFile keeps what counts against quotas. An agent that is configured
// elsewhere is one of several, and keeps it there.
func (d *Daemon) quotaFile() string {
	if filepath.Clean(d.UCI) == uciDir {
		return filepath.Join(quotaDir, "quota")
	}
	return filepath.Join(d.UCI, "quota")
}

func (d *Daemon) openQuotas() (err error) {
	if d.clock, err = quota.NewClock(); err != nil {
		return err
	}
	now, err := d.clock.Now()
	if err != nil {
		return err
	}
	if d.quotas, err = quota.Open(d.quotaFile(), now); err != nil {
		d.log.Warn("quotas", "file", d.quotaFile(), "error", err)
	}
	d.view.Quotas(d.quotas)
	return nil
}

func (d *Daemon) saveQuotas() error {
	now, err := d.clock.Now()
	if err != nil {
		return err
	}
	return d.quotas.Save(now)
}

// countQuotas counts what WANs with a quota have carried.
func (l *loop) countQuotas() {
	var counters map[string]netstate.Traffic
	var now quota.Moment
	for i, w := range l.plan.WANs {
		link, there := l.net.Link(w.Device)
		c, known := l.wan(i, w.Name)
		if !there || !known || c.Quota == 0 {
			continue
		}
		if counters == nil {
			var err error
			if now, err = l.clock.Now(); err != nil {
				l.complain(err)
				return
			}
			counters = l.counters.Traffic()
		}
		r := quota.Reading{Device: w.Device, Index: link.Index, Highest: l.highest(), RX: counters[w.Device].RX, TX: counters[w.Device].TX}
		if _, counted := counters[w.Device]; !counted {
			continue // it has just gone
		}
		if level := l.quotas.Count(now, w.Name, status.Tariff(c), r); level > 0 {
			l.log.Info("quota", "wan", w.Name, "percent", level)
			l.send(report.QuotaEvent{WAN: w.Name, Percent: level})
		}
	}
	if counters == nil {
		return
	}
	if err := l.quotas.SaveIfDue(now); err != nil {
		l.log.Warn("quotas", "error", err)
	}
}

// wan is what the configuration says of the plan's WAN i; the plan may be one
// of the configuration before.
func (l *loop) wan(i int, name string) (config.WAN, bool) {
	if i >= len(l.config.WANs) || l.config.WANs[i].Name != name {
		return config.WAN{}, false
	}
	return l.config.WANs[i], true
}

// highest is the highest index of any device.
func (l *loop) highest() int {
	if len(l.net.Links) == 0 {
		return 0
	}
	return l.net.Links[len(l.net.Links)-1].Index
}

// spent are the WANs whose quota is used up.
func (l *loop) spent() map[string]bool {
	var all map[string]bool
	for _, c := range l.config.WANs {
		if c.Quota == 0 {
			continue
		}
		t := status.Tariff(c)
		if l.quotas.Used(c.Name) >= t.Limit {
			if all == nil {
				all = make(map[string]bool)
			}
			all[c.Name] = true
		}
	}
	return all
}

// setUsed says how much of its quota a WAN has used.
func (l *loop) setUsed(wan string, bytes uint64) error {
	for _, c := range l.config.WANs {
		if c.Name != wan {
			continue
		}
		if c.Quota == 0 {
			return fmt.Errorf("WAN %q has no quota: %w", wan, ubus.ErrInvalidArgument)
		}
		now, err := l.clock.Now()
		if err != nil {
			return err
		}
		l.countQuotas() // what was carried until now is in what the user says
		err = l.quotas.SetUsed(now, wan, bytes)
		l.log.Info("quota set", "wan", wan, "used", bytes)
		l.countQuotas()
		return err
	}
	return l.view.Has(wan)
}

// heed acts on what modems begin to say. A line whose modem receives little is
// probed: that is no verdict, but a reason to look. One whose modem has no service
// any more, and says so only when it is asked next, is down until its probes have
// shown that this is over.
func (l *loop) heed() {
	told := l.modems.Facts()
	for wan, f := range told {
		before := l.told[wan]
		if f.Weak() && !before.Weak() {
			l.health.Kick(wan)
		}
		if trouble := f.Trouble(); trouble != before.Trouble() && trouble != "" && f.Down() == "" {
			l.health.Condemn(wan, trouble)
		}
	}
	l.told = told
}
