// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package modem

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"braid/test/cellular"
	"braid/transport/journal"
)

// stand is a uqmi that answers from files, a file a question; each question is
// noted in "asked". Where there is a file "hang", it hangs with its modem.
const stand = `#!/bin/sh
cd "$(dirname "$0")" || exit 1
[ "$1 $2" = "-s -d" ] || exit 2
[ -e running ] && echo "two at once" >>asked
: >running
echo "$3 $4" >>asked
if [ -e hang ]; then
	trap 'echo released >>asked; exit 1' TERM
	sleep 600 & # which has our output, and outlives us
	wait
fi
cat "answer$4"
code=$?
rm -f running
exit $code
`

// qmi is a router with a modem that netifd runs by QMI.
type qmi struct {
	*testing.T
	*Watcher
	dir string
}

func newQMI(t *testing.T) *qmi {
	t.Helper()
	q := &qmi{T: t, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(q.dir, "uqmi"), []byte(stand), 0o755); err != nil {
		t.Fatal(err)
	}
	// /sys of a modem whose device is multiplexed.
	usb := filepath.Join(q.dir, "sys/devices/usb1/1-1/1-1:1.4")
	for _, d := range []string{usb + "/net/wwan0", usb + "/usbmisc/cdc-wdm0", q.dir + "/sys/class/net/qmimux0/lower_wwan0", usb + "/net/wwan0/x"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{q.dir + "/sys/class/net/wwan0": usb + "/net/wwan0", usb + "/net/wwan0/device": usb} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	q.Watcher = NewWatcher(journal.New(new(buffer)))
	q.dial = dialer(&cellular.Bus{Address: "unix:path=" + q.dir + "/none"})
	q.patience = time.Second
	q.Watcher.sysfs, q.Watcher.uqmi, q.Watcher.interval = filepath.Join(q.dir, "sys"), filepath.Join(q.dir, "uqmi"), 200*time.Millisecond
	return q
}

// answer says what is answered to the first question, and to whatever follows.
func (q *qmi) answer(serving, then string) {
	q.Helper()
	for flag, text := range map[string]string{askServing: serving, askSignal: then, askPIN: then, askSIM: then} {
		path := filepath.Join(q.dir, "answer"+flag)
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			q.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			q.Fatal(err)
		}
	}
}

func (q *qmi) asked() []string {
	text, _ := os.ReadFile(filepath.Join(q.dir, "asked"))
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func (q *qmi) run(device string) {
	q.SetTargets([]Target{{WAN: "lte", Modem: "auto", Device: device, QMI: true}})
	runWatcher(q.T, q.Watcher)
}

// The answers are as uqmi prints them, those of 2016 among them.
func TestUQMI(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, serving, then string
		want                Facts
	}{
		{"LTE", `{
	"registration": "registered",
	"plmn_mcc": 262,
	"plmn_mnc": 1,
	"plmn_description": "Acme\u00b7Mobile\u202e",
	"roaming": false
}`, `{ "type": "lte", "rssi": -51, "rsrq": -10, "rsrp": -81, "snr": 13.600000 }`,
			Facts{Present: true, Operator: "Acme·Mobile", Technology: "LTE", Signal: 100, RSRP: -81, RSRQ: -10, SINR: 13.6, Registration: Home}},
		{"tenths", `{"registration":"registered","plmn_description":"Acme","roaming":true}`, `{"type":"lte","rssi":-82,"rsrq":-11,"rsrp":-111,"snr":-32}`,
			Facts{Present: true, Operator: "Acme", Technology: "LTE", Signal: 50, RSRP: -111, RSRQ: -11, SINR: -3.2, Registration: Roaming, Roaming: true}},
		{"5G beside LTE", `{"registration":"registered","radio_interface":["lte","5gnr"],"plmn_description":"Acme","roaming":false}`,
			"{\"type\":\"lte\",\"rssi\":-60,\"rsrp\":-90}\n{\"type\":\"5gnr\",\"rsrp\":-84,\"snr\":20.5}",
			Facts{Present: true, Operator: "Acme", Technology: "5G NSA", Signal: 85, RSRP: -84, SINR: 20.5, Registration: Home}},
		{"searching", `{"registration":"searching","plmn_description":"Old","roaming":false}`, `{"type":"lte","rsrp":-84}`, Facts{Present: true, Registration: Searching}},
		{"denied", `{"registration":"registering_denied"}`, `{}`, Facts{Present: true, Registration: Denied}},
		{"a PIN", `{"registration":"not_registered"}`, `{"pin1_status":"not_verified","pin1_verify_tries":3,"pin1_unblock_tries":10}`,
			Facts{Present: true, Registration: Idle, Lock: "sim-pin, 3 tries left"}},
		{"a PUK, and a table of cards", `{"registration":"not_registered"}`,
			`{"":{"card_slot":0,"card_application_state":"pin1-blocked","pin1_status":"blocked","pin1_verify_tries":0,"pin1_unlock_tries":10,"pin2_status":"not_verified"}}`,
			Facts{Present: true, Registration: Idle, Lock: "sim-puk, 10 tries left"}},
		{"no lock", `{"registration":"searching"}`, `{"pin1_status":"verified","pin1_verify_tries":3,"pin1_unblock_tries":10}`, Facts{Present: true, Registration: Searching}},
		{"asked elsewhere", `{"registration":"searching"}`, `"Not supported"`, Facts{Present: true, Registration: Searching}},
		{"an error", `"Failed to connect to service"`, `{}`, Facts{Present: true}},
		{"no JSON", "<html>", `{}`, Facts{}},
		{"cut off", `{"registration":"regi`, `{}`, Facts{}},
		{"nothing", "", `{}`, Facts{}},
		{"endless", strings.Repeat("[", 1<<20), `{}`, Facts{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := newQMI(t)
			q.answer(tt.serving, tt.then)
			q.run("qmimux0")
			tt.want.Source = SourceUQMI
			f := until(t, q.Watcher, "lte", "answer", func(f Facts) bool { return f.Source == SourceUQMI && len(q.asked()) > 3 })
			if f != tt.want {
				t.Errorf("\n%+v, want\n%+v", f, tt.want)
			}
			if f.Down() != "" {
				t.Errorf("down: %q", f.Down())
			}
			for i, a := range q.asked() {
				if !slices.Contains([]string{askServing, askSignal, askPIN, askSIM}, strings.TrimPrefix(a, "/dev/cdc-wdm0 ")) {
					t.Errorf("question %d: %q", i, a)
				}
			}
		})
	}
}

// A uqmi that hangs with its modem is ended, and asked no more often for that;
// what was known is known no longer, but for roaming.
func TestUQMIHangs(t *testing.T) {
	t.Parallel()
	q := newQMI(t)
	q.answer(`{"registration":"registered","plmn_description":"Acme","roaming":true}`, `{"type":"lte","rsrp":-84}`)
	q.run("wwan0")
	until(t, q.Watcher, "lte", "answer", func(f Facts) bool { return f.Registration == Roaming })
	if err := os.WriteFile(filepath.Join(q.dir, "hang"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	f := until(t, q.Watcher, "lte", "silence", func(f Facts) bool { return f.Registration == Unknown })
	if !f.Roaming || f.Present || f.Source != SourceUQMI || f.Down() != "" {
		t.Errorf("%+v", f)
	}
	if !slices.Contains(q.asked(), "released") {
		t.Error("killed before it could give back what it has of the modem")
	}
	if d := time.Since(began); d < q.patience/2 {
		t.Errorf("given up after %v", d)
	}
	if err := os.Remove(filepath.Join(q.dir, "hang")); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(q.dir, "running"))
	q.answer(`{"registration":"registered","plmn_description":"Acme","roaming":false}`, `{"type":"lte","rsrp":-84}`)
	until(t, q.Watcher, "lte", "answer again", func(f Facts) bool { return f.Registration == Home && !f.Roaming })
}

// Without uqmi, with one that fails, or without a modem that it could ask, a WAN
// is as it is.
func TestNoUQMI(t *testing.T) {
	t.Parallel()
	q := newQMI(t)
	q.Watcher.uqmi = filepath.Join(q.dir, "none")
	q.run("wwan0")
	f := until(t, q.Watcher, "lte", "end of trying", func(f Facts) bool { return f.Source == SourceUQMI })
	if f != (Facts{Source: SourceUQMI}) {
		t.Errorf("%+v", f)
	}
	q = newQMI(t) // it fails, for it has no answers
	q.run("wwan0")
	f = until(t, q.Watcher, "lte", "failure", func(f Facts) bool { return f.Source == SourceUQMI && len(q.asked()) > 2 })
	if f != (Facts{Source: SourceUQMI}) {
		t.Errorf("%+v", f)
	}
	q = newQMI(t)
	q.run("eth1")
	until(t, q.Watcher, "lte", "end of looking", func(f Facts) bool { return f.Source == SourceUQMI })
	if a := q.asked(); a[0] != "" {
		t.Errorf("asked %q", a)
	}
}

// uqmi is asked as often as it is to be, and not at all while there is a
// ModemManager, which does not like that.
func TestUQMIIsAskedSeldom(t *testing.T) {
	t.Parallel()
	q := newQMI(t)
	q.answer(`{"registration":"registered","plmn_description":"Acme","roaming":false}`, `{"type":"lte","rsrp":-84}`)
	q.Watcher.interval = time.Hour
	q.run("wwan0")
	until(t, q.Watcher, "lte", "answer", func(f Facts) bool { return f.Registration == Home })
	for i := range 20 {
		q.SetTargets([]Target{{WAN: "lte", Modem: "auto", Device: "wwan0", QMI: true}, {WAN: fmt.Sprint(i), Modem: "auto", Device: "wwan0", QMI: true}})
		hint(q.pollC)
		time.Sleep(10 * time.Millisecond)
	}
	if n := len(q.asked()); n != 2 {
		t.Errorf("%d questions, want two: %q", n, q.asked())
	}

	m, err := cellular.StartManager(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	q = newQMI(t)
	q.dial = dialer(m.Bus)
	modem, _, err := m.Plug("stick", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(modem.Close)
	q.answer(`{"registration":"registered","plmn_description":"Acme","roaming":false}`, `{"type":"lte","rsrp":-84}`)
	q.SetTargets([]Target{{WAN: "lte", Modem: "auto", Device: "wwan0", QMI: true}, {WAN: "other", Modem: cellular.IMEI}})
	runWatcher(t, q.Watcher)
	until(t, q.Watcher, "other", "ModemManager", func(f Facts) bool { return f.Present })
	time.Sleep(2 * q.Watcher.interval)
	if a := q.asked(); a[0] != "" {
		t.Errorf("asked although there is a ModemManager: %q", a)
	}
	m.Kill()
	until(t, q.Watcher, "lte", "answer", func(f Facts) bool { return f.Source == SourceUQMI && f.Registration == Home })
}
