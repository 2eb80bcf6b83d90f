// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package modem

import (
	"context"
	"maps"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"braid/test/cellular"
	"braid/transport/journal"
)

// peer has ModemManager's public interface on a bus, and plays what the real
// one cannot without hardware: bearers on devices, 5G, values of the radio.
type peer struct {
	bus  *cellular.Bus
	conn *dbus.Conn

	mu      sync.Mutex
	objects map[dbus.ObjectPath]map[string]map[string]dbus.Variant
	bearers map[dbus.ObjectPath]map[string]dbus.Variant
	reads   int
	mute    bool
}

const (
	firstModem  dbus.ObjectPath = managerPath + "/Modem/0"
	secondModem dbus.ObjectPath = managerPath + "/Modem/1"
	oneBearer   dbus.ObjectPath = managerPath + "/Bearer/0"
	firstBearer dbus.ObjectPath = managerPath + "/Bearer/1"
)

// GetManagedObjects is ObjectManager's.
func (p *peer) GetManagedObjects() (map[dbus.ObjectPath]map[string]map[string]dbus.Variant, *dbus.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads++
	if p.mute {
		p.mu.Unlock()
		time.Sleep(3 * time.Second)
		p.mu.Lock()
	}
	// What is returned is read when the lock is not held any more.
	all := make(map[dbus.ObjectPath]map[string]map[string]dbus.Variant)
	for path, interfaces := range p.objects {
		all[path] = make(map[string]map[string]dbus.Variant)
		for name, have := range interfaces {
			all[path][name] = maps.Clone(have)
		}
	}
	return all, nil
}

// bearer has Properties of its own.
type bearer struct {
	*peer
	path dbus.ObjectPath
}

// GetAll is Properties'.
func (b bearer) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bearers[b.path], nil
}

// radio is Modem.Signal.
type radio struct{}

// Setup takes any rate.
func (radio) Setup(uint32) *dbus.Error { return nil }

func newPeer(t *testing.T) *peer {
	t.Helper()
	b, err := cellular.StartBus(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	p := &peer{bus: b, bearers: make(map[dbus.ObjectPath]map[string]dbus.Variant), objects: make(map[dbus.ObjectPath]map[string]map[string]dbus.Variant)}
	if p.conn, err = b.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.conn.Close() })
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.conn.Export(p, managerPath, objectManager))
	for _, path := range []dbus.ObjectPath{oneBearer, firstBearer} {
		must(p.conn.Export(bearer{p, path}, path, propertyInterface))
	}
	for _, path := range []dbus.ObjectPath{firstModem, secondModem} {
		must(p.conn.Export(radio{}, path, signalInterface))
	}
	p.objects[firstModem] = map[string]map[string]dbus.Variant{
		modemInterface: variants("State", int32(11), "Device", "/sys/devices/usb1/1-1", "EquipmentIdentifier", cellular.IMEI, "Model", "5G 1",
			"Bearers", []dbus.ObjectPath{oneBearer}, "AccessTechnologies", uint32(techLTE), "Ports", []port{{"cdc-wdm0", 6}, {"wwan0", 2}}),
		modem3GPP: variants("RegistrationState", uint32(1), "OperatorName", "Acme", "InitialEpsBearer", firstBearer),
	}
	reply, err := p.conn.RequestName(managerName, dbus.NameFlagDoNotQueue)
	if err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	return p
}

type port struct {
	Name string
	Type uint32
}

func variants(kv ...any) map[string]dbus.Variant {
	m := make(map[string]dbus.Variant)
	for i := 0; i < len(kv); i += 2 {
		m[kv[i].(string)] = dbus.MakeVariant(kv[i+1])
	}
	return m
}

// set changes properties of the first modem and tells of it.
func (p *peer) set(iface string, kv ...any) {
	p.mu.Lock()
	have := p.objects[firstModem][iface]
	if have == nil {
		have = make(map[string]dbus.Variant)
		p.objects[firstModem][iface] = have
	}
	changed := variants(kv...)
	for k, v := range changed {
		have[k] = v
	}
	p.mu.Unlock()
	p.conn.Emit(firstModem, propertyInterface+".PropertiesChanged", iface, changed, []string{})
}

func (p *peer) setBearer(path dbus.ObjectPath, kv ...any) {
	p.mu.Lock()
	p.bearers[path] = variants(kv...)
	p.mu.Unlock()
	p.conn.Emit(path, propertyInterface+".PropertiesChanged", bearerInterface, variants(kv...), []string{})
}

// watch has a watcher watch what the peer plays.
func (p *peer) watch(t *testing.T, targets ...Target) *Watcher {
	w := NewWatcher(journal.New(new(buffer)))
	w.dial, w.sysfs, w.timeout = dialer(p.bus), t.TempDir(), time.Second
	w.SetTargets(targets)
	runWatcher(t, w)
	return w
}

func TestWhatAModemTells(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	w := p.watch(t, Target{WAN: "lte", Modem: "auto", Device: "wwan0"})
	check := func(what string, is func(Facts) bool) {
		t.Helper()
		until(t, w, "lte", what, is)
	}
	check("modem by its port", func(f Facts) bool { return f.Registration == Home && f.Technology == "LTE" })
	p.set(modemInterface, "AccessTechnologies", uint32(techLTE|tech5GNR))
	check("5G beside LTE", func(f Facts) bool { return f.Technology == "5G NSA" })
	p.set(modemInterface, "AccessTechnologies", uint32(tech5GNR))
	check("5G alone", func(f Facts) bool { return f.Technology == "5G" })
	p.set(modemInterface, "AccessTechnologies", uint32(techAny))
	check("any technology", func(f Facts) bool { return f.Technology == "" })

	type quality struct {
		Percent uint32
		Recent  bool
	}
	p.set(modemInterface, "SignalQuality", quality{70, true})
	check("signal", func(f Facts) bool { return f.Signal == 70 })
	p.set(modemInterface, "SignalQuality", quality{70, false})
	check("old signal, which is not shown", func(f Facts) bool { return f.Signal == 0 })

	unknown := -math.MaxFloat64 // as ModemManager has it
	p.set(signalInterface, "Rate", uint32(5), "Lte", variants("rsrp", -100.0, "rsrq", -11.0, "snr", 12.0), "Nr5g", variants("rsrp", unknown))
	check("values of LTE", func(f Facts) bool { return f.RSRP == -100 && f.RSRQ == -11 && f.SINR == 12 && !f.Weak() })
	p.set(signalInterface, "Nr5g", variants("rsrp", -119.0, "rsrq", unknown, "snr", math.NaN()))
	check("values of 5G", func(f Facts) bool { return f.RSRP == -119 && f.RSRQ == 0 && f.SINR == 0 && f.Weak() && f.Down() == "" })

	p.setBearer(firstBearer, "Properties", variants("ip-type", uint32(2)))
	check("what the network would grant", func(f Facts) bool { return f.IPType == "ipv6" })
	p.setBearer(oneBearer, "Connected", true, "Interface", "wwan0", "Ip4Config", variants("method", uint32(2), "mtu", uint32(1420)), "Ip6Config", variants("method", uint32(0)))
	check("what it has granted", func(f Facts) bool { return f.IPType == "ipv4" && f.MTU == 1420 })
	p.setBearer(oneBearer, "Connected", true, "Interface", "wwan0", "Ip4Config", variants("method", uint32(3), "mtu", uint32(68)), "Ip6Config", variants("method", uint32(2)))
	check("both families, and no MTU that makes sense", func(f Facts) bool { return f.IPType == "ipv4v6" && f.MTU == 0 })
	type failure struct{ Name, Message string }
	p.setBearer(oneBearer, "Connected", false, "ConnectionError", failure{"org.x", "unknown APN\x1b[2J"})
	check("why it is not connected", func(f Facts) bool { return f.Failure == "unknown APN[2J" && f.Down() == "" })

	for _, s := range []struct {
		state  uint32
		want   Registration
		down   string
		reject map[string]dbus.Variant
	}{
		{6, Home, "", nil}, {7, Roaming, "", nil}, {8, Emergency, "emergency calls only", nil}, {9, Home, "", nil}, {10, Roaming, "", nil},
		{11, Restricted, "restricted services only", nil}, {12, Unknown, "", nil}, {4, Unknown, "", nil}, {0, Idle, "not registered", nil},
		{3, Denied, "registration denied: roaming not allowed in this area, by Elsewhere", variants("error", uint32(13), "operator-name", "Elsewhere")},
		{3, Denied, "registration denied: cause 99", variants("error", uint32(99))},
		{1, Home, "", nil},
	} {
		p.set(modem3GPP, "RegistrationState", s.state, "NetworkRejection", s.reject)
		check(s.down, func(f Facts) bool { return f.Registration == s.want && f.Down() == s.down })
	}
	// What is of another type than it has to be is not known.
	p.set(modem3GPP, "RegistrationState", "home", "OperatorName", uint32(1))
	p.set(modemInterface, "SignalQuality", uint32(3), "Ports", "wwan0", "Bearers", oneBearer, "Model", []string{"x"})
	check("modem that makes no sense", func(f Facts) bool { return !f.Present })
}

// Automatic means the modem whose bearer runs over the device, else the one that
// has it as a port, else the one that is the same hardware.
func TestFindingTheModem(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	p.mu.Lock()
	p.objects[secondModem] = map[string]map[string]dbus.Variant{
		modemInterface: variants("State", int32(8), "Device", "/sys/devices/usb1/1-2", "EquipmentIdentifier", "353490069873319", "Model", "second",
			"Bearers", []dbus.ObjectPath{firstBearer}),
		modem3GPP: variants("RegistrationState", uint32(1)),
	}
	p.bearers[firstBearer] = variants("Connected", true, "Interface", "wwan0")
	p.mu.Unlock()
	w := NewWatcher(journal.New(new(buffer)))
	w.dial, w.sysfs = dialer(p.bus), t.TempDir()
	for name, at := range map[string]string{"usb0": "devices/usb1/1-2/1-2:1.0", "eth1": "devices/pci/0000:01:00.0", "usb1": "devices/usb1/1-23/1-23:1.0"} {
		for _, d := range []string{at, "class/net/" + name} {
			if err := os.MkdirAll(filepath.Join(w.sysfs, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(filepath.Join(w.sysfs, at), filepath.Join(w.sysfs, "class/net", name, "device")); err != nil {
			t.Fatal(err)
		}
	}
	wants := map[Target]string{
		{WAN: "bearer", Modem: "auto", Device: "wwan0"}:        "second", // the first one has the port
		{WAN: "hardware", Modem: "auto", Device: "usb0"}:       "second",
		{WAN: "other", Modem: "auto", Device: "eth1"}:          "",
		{WAN: "begins alike", Modem: "auto", Device: "usb1"}:   "",
		{WAN: "no device", Modem: "auto"}:                      "",
		{WAN: "imei", Modem: cellular.IMEI, Device: "usb0"}:    "5G 1",
		{WAN: "no imei", Modem: "000000000000000"}:             "",
		{WAN: "path", Modem: string(secondModem)}:              "second",
		{WAN: "no path", Modem: managerPath + "/Modem/7"}:      "",
		{WAN: "no modem", Modem: string(oneBearer)}:            "",
		{WAN: "manager", Modem: managerPath, Device: "wwan0"}:  "",
		{WAN: "gone", Modem: "auto", Device: "device-of-none"}: "",
	}
	var targets []Target
	for target := range wants {
		targets = append(targets, target)
	}
	w.SetTargets(targets)
	runWatcher(t, w)
	until(t, w, "imei", "modem", func(f Facts) bool { return f.Present })
	for target, want := range wants {
		f := w.Facts()[target.WAN]
		if f.Model != want || f.Present != (want != "") {
			t.Errorf("%+v has %+v, want %q", target, f, want)
		}
	}
	p.mu.Lock()
	p.bearers[firstBearer] = variants("Connected", false, "Interface", "wwan0")
	p.mu.Unlock()
	p.set(modemInterface, "x", "y")
	until(t, w, "bearer", "port", func(f Facts) bool { return f.Model == "5G 1" })
}

// A modem that chatters is looked at a few times a second.
func TestChatter(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	w := p.watch(t, Target{WAN: "lte", Modem: "auto", Device: "wwan0"})
	until(t, w, "lte", "modem", func(f Facts) bool { return f.Present })
	p.mu.Lock()
	before := p.reads
	p.mu.Unlock()
	began := time.Now()
	for i := 0; time.Since(began) < time.Second; i++ {
		p.set(modem3GPP, "OperatorName", string(rune('a'+i%26)))
	}
	p.set(modem3GPP, "OperatorName", "at last")
	until(t, w, "lte", "last word", func(f Facts) bool { return f.Operator == "at last" })
	p.mu.Lock()
	defer p.mu.Unlock()
	if n, most := p.reads-before, int(time.Since(began)/spacing)+2; n > most {
		t.Errorf("looked %d times, want at most %d", n, most)
	}
}

// A ModemManager that does not answer is one that is not there.
func TestHangingManager(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	w := p.watch(t, Target{WAN: "lte", Modem: "auto", Device: "wwan0"})
	p.set(modem3GPP, "RegistrationState", uint32(3))
	until(t, w, "lte", "denial", func(f Facts) bool { return f.Down() != "" })
	p.mu.Lock()
	p.mute = true
	p.mu.Unlock()
	p.set(modemInterface, "State", int32(8))
	until(t, w, "lte", "end of patience", func(f Facts) bool { return f.Source == SourceNone && f.Down() == "" })
	p.mu.Lock()
	p.mute = false
	p.mu.Unlock()
	until(t, w, "lte", "return", func(f Facts) bool { return f.Registration == Denied })
}
