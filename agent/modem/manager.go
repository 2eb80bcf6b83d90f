// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package modem

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	// callTimeout bounds a question to ModemManager, which answers from memory,
	// or to the bus.
	callTimeout = 10 * time.Second
	// radioRate is how often a modem is to refresh its radio values where
	// nobody else has said, in seconds.
	radioRate = 15
)

// manager is ModemManager as seen over a connection to the system bus.
type manager struct {
	conn    *dbus.Conn
	timeout time.Duration // of a question
	signalC chan *dbus.Signal
	// rated are the modems that were told to refresh their radio values, with the
	// state they were in then, or taken once they have done so.
	rated map[dbus.ObjectPath]int32
}

// taken is no state of a modem.
const taken = -128

// connect reaches the system bus by dial, and has everything told that
// ModemManager says there.
func connect(ctx context.Context, dial func(...dbus.ConnOption) (*dbus.Conn, error), timeout time.Duration) (*manager, error) {
	conn, err := dial()
	if err != nil {
		return nil, fmt.Errorf("reaching the system bus: %w", err)
	}
	// A bus that does not answer must not hold us.
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	m := &manager{conn: conn, timeout: timeout, signalC: make(chan *dbus.Signal, 16), rated: make(map[dbus.ObjectPath]int32)}
	conn.Signal(m.signalC)
	for _, step := range []func() error{
		func() error { return conn.Auth(nil) },
		conn.Hello,
		func() error {
			return conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(managerName), dbus.WithMatchPathNamespace(managerPath))
		},
		func() error {
			return conn.AddMatchSignalContext(ctx, dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, managerName))
		},
	} {
		if err := step(); err != nil {
			conn.Close()
			return nil, fmt.Errorf("talking to the system bus: %w", errors.Join(err, ctx.Err()))
		}
	}
	return m, nil
}

// call calls a method, without having the bus start a ModemManager that does
// not run.
func (m *manager) call(ctx context.Context, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	return m.conn.Object(managerName, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
}

// running says whether there is a ModemManager.
func (m *manager) running(ctx context.Context) (owned bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	err = m.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, managerName).Store(&owned)
	if err != nil {
		err = fmt.Errorf("asking the bus for ModemManager: %w", err)
	}
	return owned, err
}

// read reads all modems.
func (m *manager) read(ctx context.Context) ([]*object, error) {
	var managed map[dbus.ObjectPath]map[string]map[string]dbus.Variant
	if err := m.call(ctx, managerPath, objectManager+".GetManagedObjects").Store(&managed); err != nil {
		return nil, fmt.Errorf("asking ModemManager for its modems: %w", err)
	}
	var objects []*object
	for path, interfaces := range managed {
		if o := newObject(path, interfaces); o != nil {
			o.setBearers(m.bearers(ctx, o))
			objects = append(objects, o)
		}
	}
	sort.Slice(objects, func(i, j int) bool { return objects[i].path < objects[j].path })
	return objects, nil
}

// bearers reads the bearers of a modem. One that has gone meanwhile tells
// nothing, and that will be told.
func (m *manager) bearers(ctx context.Context, o *object) map[dbus.ObjectPath]properties {
	all := make(map[dbus.ObjectPath]properties)
	for _, path := range append([]dbus.ObjectPath{o.initial}, o.bearers...) {
		var p map[string]dbus.Variant
		if len(path) > 1 && m.call(ctx, path, propertyInterface+".GetAll", bearerInterface).Store(&p) == nil {
			all[path] = p
		}
	}
	return all
}

// rate has the modems in use refresh their radio values, unless somebody else
// sees to that, and gives back what is no longer in use.
func (m *manager) rate(ctx context.Context, objects, used []*object) {
	rates := make(map[dbus.ObjectPath]uint32)
	for _, o := range objects {
		rates[o.path] = o.rate
	}
	wanted := make(map[dbus.ObjectPath]bool)
	for _, o := range used {
		if !o.radio || o.state < stateEnabled {
			continue
		}
		wanted[o.path] = true
		// It is off again when a modem was disabled. One that has refused is asked
		// again in another state.
		switch tried, done := m.rated[o.path]; {
		case o.rate == radioRate && done:
			m.rated[o.path] = taken
		case o.rate == 0 && (!done || tried != o.state):
			m.rated[o.path] = o.state
			m.call(ctx, o.path, signalInterface+".Setup", uint32(radioRate))
		}
	}
	for path := range m.rated {
		if wanted[path] {
			continue
		}
		delete(m.rated, path)
		if rates[path] == radioRate {
			m.call(ctx, path, signalInterface+".Setup", uint32(0))
		}
	}
}
