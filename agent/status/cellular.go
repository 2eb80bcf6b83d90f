// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"cmp"
	"time"

	"braid/agent/config"
	"braid/agent/modem"
	"braid/agent/plan"
	"braid/agent/quota"
	"braid/agent/report"
)

// gigabyte is the unit of quotas in the configuration, in bytes.
const gigabyte = 1e9

// Tariff is what the configuration says of a WAN's quota.
func Tariff(c config.WAN) quota.Tariff {
	return quota.Tariff{Limit: uint64(c.Quota) * gigabyte, Day: c.QuotaDay, Once: c.QuotaPeriod == config.QuotaOnce}
}

// Quotas says by which book quotas are reported from now on.
func (v *View) Quotas(b *quota.Book) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.quotas = b
}

func (v *View) quota(c config.WAN) report.Quota {
	v.mu.Lock()
	b := v.quotas
	v.mu.Unlock()
	if c.Quota == 0 || b == nil {
		return report.Quota{}
	}
	t := Tariff(c)
	u := b.Usage(time.Now(), c.Name, t)
	return report.Quota{Used: u.Used, Limit: t.Limit, Resets: int(u.Resets.Seconds())}
}

func cellular(f modem.Facts) report.Cellular {
	return report.Cellular{
		Source: string(cmp.Or(f.Source, modem.SourceNone)), Model: f.Model, Operator: f.Operator, Technology: f.Technology,
		Signal: f.Signal, RSRP: f.RSRP, RSRQ: f.RSRQ, SINR: f.SINR, Registration: string(f.Registration), Roaming: f.Roaming,
		Lock: f.Lock, Failure: f.Failure, IPType: f.IPType,
	}
}

// tellModemsLocked tells of modems that stand otherwise with their networks than
// before. One of which nothing was ever known is not missed.
func (v *View) tellModemsLocked(p plan.Plan) (told []report.Told) {
	const absent = "absent"
	facts := v.modems.Facts()
	networks := make(map[string]string)
	for _, t := range p.Modems {
		old := cmp.Or(v.networks[t.WAN], absent)
		now, reason := facts[t.WAN].Condition()
		if networks[t.WAN] = now; now != old {
			told = append(told, report.ModemEvent{WAN: t.WAN, From: old, To: now, Reason: reason})
		}
	}
	v.networks = networks
	return told
}
