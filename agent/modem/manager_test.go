// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package modem

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/godbus/dbus/v5"
	"go.uber.org/goleak"

	"braid/test/cellular"
	"braid/transport/journal"
)

// bench is a watcher beside the real ModemManager.
type bench struct {
	*testing.T
	*Watcher
	manager *cellular.Manager
	log     *buffer
	stop    func()

	seen []Facts // all that have been looked at
}

// newBench starts both; the watcher watches one WAN, whose modem is the one
// that everybody has the IMEI of.
func newBench(t *testing.T) *bench {
	t.Helper()
	m, err := cellular.StartManager(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	b := &bench{T: t, manager: m, log: new(buffer)}
	b.start()
	b.SetTargets([]Target{{WAN: "lte", Modem: cellular.IMEI}})
	return b
}

func (b *bench) start() {
	log := journal.New(b.log)
	log.SetLevel(journal.Debug)
	b.Watcher = NewWatcher(log)
	b.dial = dialer(b.manager.Bus)
	b.stop = runWatcher(b.T, b.Watcher)
}

func dialer(b *cellular.Bus) func(...dbus.ConnOption) (*dbus.Conn, error) {
	return func(...dbus.ConnOption) (*dbus.Conn, error) { return dbus.Dial(b.Address) }
}

// runWatcher runs a watcher until the test ends or stop is called.
func runWatcher(t *testing.T, w *Watcher) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-doneC:
		case <-time.After(20 * time.Second):
			t.Error("the watcher does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// plug gives ModemManager the modem and switches it on.
func (b *bench) plug(prepare func(*cellular.Modem)) (*cellular.Modem, dbus.ObjectPath) {
	b.Helper()
	modem, path, err := b.manager.Plug("stick", prepare)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(modem.Close)
	return modem, path
}

func (b *bench) enable(path dbus.ObjectPath) {
	b.Helper()
	if err := b.manager.Enable(path); err != nil {
		b.Fatal(err)
	}
}

// until waits until the facts are as they should be, for as long as a loaded
// machine may take, and returns them and how long it was.
func (b *bench) until(what string, is func(Facts) bool) (Facts, time.Duration) {
	b.Helper()
	began := time.Now()
	f := until(b.T, b.Watcher, "lte", what, is)
	b.seen = append(b.seen, f)
	return f, time.Since(began)
}

func until(t *testing.T, w *Watcher, wan, what string, is func(Facts) bool) Facts {
	t.Helper()
	timeout := time.After(40 * time.Second)
	for {
		f := w.Facts()[wan]
		if is(f) {
			return f
		}
		select {
		case <-w.Changed():
		case <-time.After(20 * time.Millisecond): // what is may be told by others
		case <-timeout:
			t.Fatalf("no %s: %+v", what, f)
		}
	}
}

// noSecret fails if anything told holds what is nobody's business.
func (b *bench) noSecret() {
	b.Helper()
	told := fmt.Sprintf("%+v\n%s", b.seen, b.log)
	for _, secret := range cellular.Secrets {
		if strings.Contains(told, secret) {
			b.Errorf("%s has been told", secret)
		}
	}
}

type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var _ io.Writer = (*buffer)(nil)

func TestLifeOfAModem(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	b := newBench(t)
	if f, _ := b.until("modem that is not there", func(f Facts) bool { return f.Source == SourceNone }); f.Present || f.Down() != "" {
		t.Errorf("without a modem: %+v, down %q", f, f.Down())
	}
	modem, path := b.plug(nil)
	f, _ := b.until("modem", func(f Facts) bool { return f.Present })
	if f.Source != SourceManager || f.Model != "Acme LTE 1" || f.Registration != Unknown || f.Down() != "" {
		t.Errorf("a modem that is off: %+v, down %q", f, f.Down())
	}
	b.enable(path)
	f, _ = b.until("network", func(f Facts) bool { return f.Operator != "" && f.Signal > 0 && f.RSRP != 0 })
	want := Facts{Source: SourceManager, Present: true, Model: "Acme LTE 1", Operator: "Acme Mobile", Technology: "LTE",
		Signal: 80, RSRP: -81, RSRQ: -10, Registration: Home, IPType: f.IPType}
	if f != want {
		t.Errorf("at home:\n%+v, want\n%+v", f, want)
	}

	for _, s := range []struct {
		r       cellular.Registration
		want    Registration
		down    string
		roaming bool
	}{
		{cellular.Roaming, Roaming, "", true},
		{cellular.Home, Home, "", false},
		{cellular.Denied, Denied, "registration denied", false},
		{cellular.Roaming, Roaming, "", true},
		{cellular.Searching, Searching, "not registered", false},
		{cellular.Home, Home, "", false},
		{cellular.Idle, Idle, "not registered", false},
		{cellular.Home, Home, "", false},
	} {
		modem.Register(s.r)
		f, took := b.until(string(s.want), func(f Facts) bool { return f.Registration == s.want })
		t.Logf("%s after %v", s.want, took)
		if f.Down() != s.down || f.Roaming != s.roaming {
			t.Errorf("%s: down %q, roaming %v", s.want, f.Down(), f.Roaming)
		}
		if s.down != "" && (f.Operator != "" || f.RSRP != 0 || f.Signal != 0 || f.Technology != "") {
			t.Errorf("%s: what is left of the network that served: %+v", s.want, f)
		}
	}

	modem.Signal(1)
	b.until("weaker signal", func(f Facts) bool { return f.Signal == 20 })
	modem.Signal(0)
	f, _ = b.until("no signal", func(f Facts) bool { return f.Signal == 0 })
	if f.Down() != "" {
		t.Errorf("a weak signal is taken for a verdict: %q", f.Down())
	}
	b.noSecret()
}

// What a network calls itself is shown as one short line of text.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	modem, path := b.plug(func(m *cellular.Modem) {
		m.Answer("AT+CGMI", "Evil\x1b[31m")
		m.Answer("AT+CGMM", "<script>\u202e")
	})
	b.enable(path)
	b.until("network", func(f Facts) bool { return f.Operator != "" })
	for _, tt := range []struct{ name, want string }{
		{"<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"}, // who shows it, escapes it
		{"bad\x1b[31mred\abell", "bad[31mredbell"},
		{"\u202egnp.exe", "gnp.exe"},
		{strings.Repeat("x", 5000), strings.Repeat("x", maxText)},
		{"ΩMobile", "ΩMobile"},
	} {
		modem.Operator(tt.name)
		modem.Register(cellular.Searching)
		b.until("search", func(f Facts) bool { return f.Registration == Searching })
		modem.Register(cellular.Home)
		f, _ := b.until(fmt.Sprintf("%.20q", tt.want), func(f Facts) bool { return f.Operator == tt.want })
		for _, text := range []string{f.Operator, f.Model} {
			if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || len(text) > maxText {
				t.Errorf("%q is not fit to be shown", text)
			}
		}
	}
}

func TestLockedSIM(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, path := b.plug(func(m *cellular.Modem) { m.Lock("1234") })
	f, _ := b.until("lock", func(f Facts) bool { return f.Lock != "" })
	if !strings.HasPrefix(f.Lock, "sim-pin") || f.Down() != "SIM locked: "+f.Lock {
		t.Errorf("%+v, down %q", f, f.Down())
	}
	sim, err := b.manager.SIM(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.manager.Call(sim, "Sim.SendPin", "1234"); err != nil {
		t.Fatal(err)
	}
	b.until("unlocked SIM", func(f Facts) bool { return f.Present && f.Lock == "" && f.Down() == "" })
	b.enable(path)
	b.until("network", func(f Facts) bool { return f.Registration == Home })
	b.noSecret()
}

func TestSIMTrouble(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, tt := range []struct{ answer, down string }{
		{"!+CME ERROR: 10", "modem failed: no SIM"},
		{"+CPIN: SIM PUK", "SIM locked: sim-puk"},
	} {
		b.plug(func(m *cellular.Modem) { m.Answer("AT+CPIN?", tt.answer) })
		b.until(tt.down, func(f Facts) bool { return strings.HasPrefix(f.Down(), tt.down) })
		b.manager.Unplug("stick")
		b.until("absence", func(f Facts) bool { return !f.Present && f.Down() == "" })
	}
}

// A modem that has gone, and a ModemManager that has, are no reason to give up
// a line; nor are they a reason to forget that the modem was roaming.
func TestComingAndGoing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	modem, first := b.plug(nil)
	b.enable(first)
	b.until("home", func(f Facts) bool { return f.Registration == Home })
	modem.Register(cellular.Denied)
	b.until("denial", func(f Facts) bool { return f.Down() != "" })

	b.manager.Unplug("stick")
	f, _ := b.until("absence", func(f Facts) bool { return !f.Present })
	if f.Down() != "" || f.Roaming || f.Source != SourceNone {
		t.Errorf("without the modem: %+v", f)
	}
	modem, second := b.plug(nil)
	if second == first {
		t.Fatalf("the modem is %s again: this tries nothing", second)
	}
	b.enable(second)
	b.until("return under another path", func(f Facts) bool { return f.Registration == Home })
	modem.Register(cellular.Roaming)
	b.until("roaming", func(f Facts) bool { return f.Registration == Roaming })

	b.manager.Kill()
	f, _ = b.until("absence of ModemManager", func(f Facts) bool { return f.Source == SourceNone })
	if !f.Roaming || f.Down() != "" || f.Present {
		t.Errorf("without ModemManager: %+v", f)
	}
	if err := b.manager.Start(); err != nil {
		t.Fatal(err)
	}
	_, third := b.plug(nil)
	f, _ = b.until("modem", func(f Facts) bool { return f.Present })
	if !f.Roaming {
		t.Errorf("not asked yet, and believed to be at home: %+v", f)
	}
	b.enable(third)
	f, _ = b.until("home", func(f Facts) bool { return f.Registration == Home })
	if f.Roaming {
		t.Errorf("at home: %+v", f)
	}
	b.noSecret()
}

// The bus may go: then nothing is known, and later it is again.
func TestBusGoes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	modem, path := b.plug(nil)
	b.enable(path)
	// Something has just been said when it goes.
	modem.Register(cellular.Roaming)
	b.until("roaming", func(f Facts) bool { return f.Registration == Roaming })
	modem.Register(cellular.Home)
	time.Sleep(spacing / 4)
	b.manager.Stop()
	b.until("absence", func(f Facts) bool { return f.Source == SourceNone })
	b.manager.Kill()
	if err := b.manager.Restart(); err != nil {
		t.Fatal(err)
	}
	modem.Close()
	_, path = b.plug(nil)
	b.enable(path)
	b.until("home", func(f Facts) bool { return f.Registration == Home })
}

// A rate that somebody else has set stays; ours is taken back at the end.
func TestRadioRate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, path := b.plug(nil)
	rate := func() any {
		t.Helper()
		v, err := b.manager.Get(path, "Modem.Signal.Rate")
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	b.enable(path)
	b.until("radio values", func(f Facts) bool { return f.RSRP != 0 })
	if r := rate(); r != uint32(radioRate) {
		t.Errorf("rate %v, want %d", r, radioRate)
	}
	// Who is switched off forgets it.
	if err := b.manager.Call(path, "Modem.Enable", false); err != nil {
		t.Fatal(err)
	}
	b.enable(path)
	b.until("network again", func(f Facts) bool { return f.Registration == Home })
	for end := time.Now().Add(20 * time.Second); rate() != uint32(radioRate); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("rate %v, want %d again", rate(), radioRate)
		}
	}
	b.until("radio values again", func(f Facts) bool { return f.RSRP != 0 })
	b.stop()
	if r := rate(); r != uint32(0) {
		t.Errorf("rate %v afterwards, want it taken back", r)
	}

	const theirs = 3
	if err := b.manager.Call(path, "Modem.Signal.Setup", uint32(theirs)); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.SetTargets([]Target{{WAN: "lte", Modem: string(path)}})
	b.until("radio values", func(f Facts) bool { return f.RSRP != 0 })
	b.SetTargets(nil)
	b.SetTargets([]Target{{WAN: "lte", Modem: cellular.IMEI}})
	b.until("radio values", func(f Facts) bool { return f.RSRP != 0 })
	b.stop()
	if r := rate(); r != uint32(theirs) {
		t.Errorf("rate %v, want that of somebody else, %d", r, theirs)
	}
}
