// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	modems "braid/test/cellular"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// modemUCI is bothUCI with the modem of lte.
const modemUCI = `
config globals 'globals'
	option log_level 'debug'
	list lan 'lan0'
config wan 'fibre'
	option device 'fibre'
	option role 'primary'
config wan 'lte'
	option device 'lte'
	option kind 'cellular'
	option role 'bond'
%s
config converter 'mcp'
	list address '192.0.2.10'
`

// withModem starts a world whose agent has a ModemManager with a modem at home,
// which is that of lte.
func withModem(t *testing.T, options string) (*rig.Rig, *modems.Modem) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	m, err := modems.StartManager(ctx, t.TempDir())
	must(t, err)
	t.Cleanup(m.Close)
	modem, path, err := m.Plug("stick", nil)
	must(t, err)
	t.Cleanup(modem.Close)
	must(t, m.Enable(path))
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", m.Address)
	r := start(t, rig.Options{Lab: lines(), UCI: fmt.Sprintf(modemUCI, "\toption modem '"+modems.IMEI+"'\n"+options)})
	becomes(t, r, "the modem is at home", func(w report.WAN) bool { return w.Cellular.Registration == "home" && w.State == "up" })
	return r, modem
}

// becomes waits until lte is as it should be.
func becomes(t *testing.T, r *rig.Rig, what string, is func(report.WAN) bool) (lte report.WAN) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		for _, w := range status(t, r).WANs {
			if w.Name != "lte" {
				continue
			}
			if lte = w; is(w) {
				return nil
			}
		}
		return fmt.Errorf("not yet: %s: %+v", what, lte)
	})
	return lte
}

// told says whether an event has been remembered.
func told(t *testing.T, r *rig.Rig, typ, to string) bool {
	t.Helper()
	var all report.Events
	must(t, bus(t, r).Call(t.Context(), "braid", "events", table{}, &all))
	for _, e := range all.Events {
		if e.Type == typ && e.Name == "lte" && e.To == to {
			return true
		}
	}
	return false
}

// carried is what lte has carried in both directions.
func carried(w report.WAN) uint64 { return w.RXBytes + w.TXBytes }

// The modem begins to roam in the middle of a transfer: the line is left, no
// byte is lost, and as long as it roams nothing is carried over it.
func TestRoamingDuringTransfer(t *testing.T) {
	r, modem := withModem(t, "")
	var left report.WAN
	rep := during(t, r, traffic.Download, 30e6, func() {
		modem.Register(modems.Roaming)
		left = becomes(t, r, "off", func(w report.WAN) bool { return w.State == "off" })
	})
	if rep.Stall > 1200*time.Millisecond {
		t.Errorf("stalled for %v", rep.Stall)
	}
	if left.Reason != "roaming with Acme Mobile" || !left.Cellular.Roaming || left.EffectiveRole != "off" {
		t.Errorf("lte while it roams: %+v", left)
	}
	transfer(t, r.FromHost(lab.Server4), traffic.Download, 5e6)
	still := becomes(t, r, "off", func(w report.WAN) bool { return w.State == "off" })
	// What was on its way is no secret to the counter: a few packets.
	if n := carried(still) - carried(left); n > 2e6 {
		t.Errorf("lte has carried %d bytes while it was off", n)
	}
	if !told(t, r, report.EventModem, "roaming") || !told(t, r, report.EventWAN, "off") {
		t.Error("nobody has been told")
	}

	modem.Register(modems.Home)
	back := becomes(t, r, "up", func(w report.WAN) bool { return w.State == "up" })
	transfer(t, r.FromHost(lab.Server4), traffic.Download, 20e6)
	if again := becomes(t, r, "up", func(w report.WAN) bool { return w.State == "up" }); carried(again)-carried(back) < 1e6 {
		t.Errorf("lte carries nothing although it is at home again")
	}
	for _, secret := range modems.Secrets {
		for _, s := range []string{r.Agent.Log(), fmt.Sprintf("%+v", back)} {
			if strings.Contains(s, secret) {
				t.Errorf("%s has been told", secret)
			}
		}
	}
}

// A network that turns the modem away takes the line down, though everything
// that is sent over it still arrives.
func TestDeniedLineIsDown(t *testing.T) {
	r, modem := withModem(t, "")
	modem.Register(modems.Denied)
	w := becomes(t, r, "down", func(w report.WAN) bool { return w.State == "down" })
	if w.Reason != "registration denied" || w.Cellular.Registration != "denied" {
		t.Errorf("lte: %+v", w)
	}
	transfer(t, r.FromHost(lab.Server4), traffic.Download, 1e6)
	modem.Register(modems.Home)
	becomes(t, r, "up", func(w report.WAN) bool { return w.State == "up" && w.Reason == "" })
}

// The agent's modem by uqmi: a control device beside lte, and a program that
// answers from a file each.
const (
	qmiAgent = `#!/bin/sh
[ "$1" != agent ] || mount --bind %[1]s/net /sys/class/net
exec %[2]s/braid "$@"
`
	qmiProgram = `#!/bin/sh
exec cat "%[1]s/$4"
`
)

// A modem that netifd runs by QMI says that the network has turned it away: its
// line is down for that before a probe knows, and returns by what its probes
// show, whatever the modem said half a minute ago.
func TestDeniedByUQMI(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) { must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755)) }
	must(t, os.MkdirAll(filepath.Join(dir, "net/lte/device/usbmisc/cdc-wdm0"), 0o755))
	write("braid", fmt.Sprintf(qmiAgent, dir, bin))
	must(t, os.Symlink(filepath.Join(bin, "braid-mcp"), filepath.Join(dir, "braid-mcp")))
	write("uqmi", fmt.Sprintf(qmiProgram, dir))
	write("--get-serving-system", `{"registration":"registered","plmn_description":"Acme","roaming":false}`)
	write("--get-signal-info", `{"type":"lte","rssi":-60,"rsrp":-90}`)
	write("--get-pin-status", `{"pin1_status":"verified","pin1_verify_tries":3}`)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))

	uci := strings.NewReplacer("option device 'fibre'", "option interface 'wan'", "option device 'lte'", "option interface 'wwan'", "'lan0'", "'lan'").Replace(fmt.Sprintf(modemUCI, ""))
	r := start(t, rig.Options{Lab: lines(), Bin: dir, UCI: uci, Idle: true})
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	_, err := r.StartNetifd(netifdLAN, netifdOf(r.WAN("fibre"), "wan", "static"), netifdOf(r.WAN("lte"), "wwan", "qmi"))
	must(t, err)
	must(t, r.StartAgent())
	home := becomes(t, r, "at home", func(w report.WAN) bool { return w.State == "up" && w.Cellular.Registration == "home" })
	if home.Cellular.Operator != "Acme" || home.Cellular.Source != "uqmi" {
		t.Errorf("at home: %+v", home)
	}

	write("--get-serving-system", `{"registration":"registering_denied"}`)
	eventually(t, 40*time.Second, func() error { // it is asked each 30 s
		if !told(t, r, report.EventWAN, "down") {
			return errors.New("the line is not down")
		}
		return nil
	})
	var all report.Events
	must(t, bus(t, r).Call(t.Context(), "braid", "events", table{}, &all))
	down := slices.IndexFunc(all.Events, func(e report.Event) bool { return e.Type == report.EventWAN && e.Name == "lte" && e.To == "down" })
	if e := all.Events[down]; !strings.HasPrefix(e.Reason, "registration denied") {
		t.Errorf("%+v", e)
	}
	transfer(t, r.FromHost(lab.Server4), traffic.Download, 1e6)
	back := becomes(t, r, "up by what its probes show", func(w report.WAN) bool { return w.State == "up" })
	if back.Cellular.Registration != "denied" {
		t.Errorf("it is back: %+v", back)
	}
}

// The quota is used up in the middle of a transfer: the line is left, no byte is
// lost, and it carries nothing more, neither subflows nor probes, until it is
// the only one that works.
func TestQuotaDuringTransfer(t *testing.T) {
	const limit = 1e9
	r := start(t, rig.Options{Lab: lines(), UCI: fmt.Sprintf(modemUCI, "\toption quota '1'\n")})
	c := bus(t, r)
	becomes(t, r, "up", func(w report.WAN) bool { return w.State == "up" })
	must(t, c.Call(t.Context(), "braid", "set", table{"wan": "lte", "quota_used": int64(limit * 0.7)}, nil))
	set := becomes(t, r, "set", func(w report.WAN) bool { return w.Quota.Used >= limit*0.7 })
	if set.Quota.Limit != limit || set.Quota.Resets <= 0 || set.Quota.Resets > 31*24*3600 || set.EffectiveRole != "bond" {
		t.Errorf("quota: %+v, role %s", set.Quota, set.EffectiveRole)
	}
	must(t, c.Call(t.Context(), "braid", "set", table{"wan": "lte", "quota_used": int64(limit - 4e6)}, nil))

	rep := during(t, r, traffic.Download, 40e6, func() {})
	if rep.Stall > 1200*time.Millisecond {
		t.Errorf("stalled for %v", rep.Stall)
	}
	spent := becomes(t, r, "spent", func(w report.WAN) bool { return w.EffectiveRole == "backup" && w.Subflows == 0 })
	if spent.Reason != "its quota is used up" || spent.State != "up" || spent.Quota.Used < limit || spent.Quota.Used > limit+8e6 {
		t.Errorf("lte: %+v", spent)
	}
	if !told(t, r, report.EventQuota, "80") || !told(t, r, report.EventQuota, "100") {
		t.Error("nobody has been told")
	}

	// Now nothing at all: connections come and go, and the line hears of none.
	eventually(t, 5*time.Second, func() error {
		before := becomes(t, r, "spent", func(w report.WAN) bool { return w.EffectiveRole == "backup" })
		for range 5 {
			transfer(t, r.FromHost(lab.Server4), traffic.Download, 2e5)
		}
		time.Sleep(time.Second)
		after := becomes(t, r, "spent", func(w report.WAN) bool { return w.EffectiveRole == "backup" })
		if n := carried(after) - carried(before); n > 0 {
			return fmt.Errorf("lte has carried %d bytes although its quota is used up", n)
		}
		spent = after
		return nil
	})

	// A new agent goes on with the count.
	must(t, r.Agent.Stop())
	must(t, r.StartAgent())
	again := becomes(t, r, "spent again", func(w report.WAN) bool { return w.EffectiveRole == "backup" && w.Reason == "its quota is used up" })
	if grown := again.Quota.Used - spent.Quota.Used; grown > 1e5 {
		t.Errorf("the new agent says %d bytes are used, the old one said %d", again.Quota.Used, spent.Quota.Used)
	}

	// It is better than nothing, and no longer than that.
	r.Link("fibre").Blackhole(true)
	becomes(t, r, "all there is", func(w report.WAN) bool { return w.EffectiveRole == "primary" && w.State == "up" })
	transfer(t, r.FromHost(lab.Server4), traffic.Download, 1e6)
	r.Link("fibre").Blackhole(false)
	becomes(t, r, "spent", func(w report.WAN) bool { return w.EffectiveRole == "backup" && w.Subflows == 0 })
}

// Each byte counts once, as the device has counted it.
func TestQuotaCountsBytes(t *testing.T) {
	r := start(t, rig.Options{Lab: lines(), UCI: fmt.Sprintf(modemUCI, "\toption quota '1000'\n")})
	transfer(t, r.FromHost(lab.Server4), traffic.Download, 10e6)
	first := becomes(t, r, "up", func(w report.WAN) bool { return w.Quota.Used > 0 })
	base := carried(first) - first.Quota.Used // what was before the agent
	for _, end := range []func() error{
		func() error { return nil },
		func() error { r.Agent.Kill(); return r.StartAgent() },
		func() error { return errors.Join(r.Agent.Stop(), r.StartAgent()) },
	} {
		transfer(t, r.FromHost(lab.Server4), traffic.Download, 5e6)
		must(t, end())
		eventually(t, 5*time.Second, func() error {
			w := becomes(t, r, "up", func(w report.WAN) bool { return w.State == "up" })
			// A second may pass between the two counters.
			if d := int64(carried(w)-base) - int64(w.Quota.Used); d < -2000 || d > 2000 {
				return fmt.Errorf("used %d, and the device says %d", w.Quota.Used, carried(w)-base)
			}
			return nil
		})
	}
}
