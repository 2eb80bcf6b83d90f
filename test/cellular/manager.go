// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cellular

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

// ModemManager's names on the bus.
const (
	managerName    = "org.freedesktop.ModemManager1"
	managerPath    = "/org/freedesktop/ModemManager1"
	ModemInterface = managerName + ".Modem"
)

// Manager is the real ModemManager, on a bus of its own.
type Manager struct {
	*Bus
	ctx    context.Context
	conn   *dbus.Conn
	cmd    *exec.Cmd
	log    bytes.Buffer
	modems int
}

// StartManager starts a bus and a ModemManager that looks at no hardware. What
// they need is in dir.
func StartManager(ctx context.Context, dir string) (*Manager, error) {
	b, err := StartBus(ctx, dir)
	if err != nil {
		return nil, err
	}
	m := &Manager{Bus: b, ctx: ctx}
	if m.conn, err = b.Connect(); err == nil {
		err = m.Start()
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Start starts a ModemManager that has been killed.
func (m *Manager) Start() error {
	m.log.Reset()
	m.cmd = exec.CommandContext(m.ctx, "ModemManager", "--test-session", "--test-enable", "--test-no-udev", "--no-auto-scan", "--log-level=DEBUG")
	m.cmd.Env = append(os.Environ(), "DBUS_SESSION_BUS_ADDRESS="+m.Address, "DBUS_SYSTEM_BUS_ADDRESS="+m.Address)
	m.cmd.Stdout, m.cmd.Stderr = &m.log, &m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("starting ModemManager: %w", err)
	}
	return await(m.ctx, "ModemManager", func() error {
		_, err := m.objects()
		return err
	})
}

// Kill ends ModemManager without warning.
func (m *Manager) Kill() {
	m.cmd.Process.Kill()
	m.cmd.Wait()
}

// Close ends ModemManager and bus.
func (m *Manager) Close() {
	if m.cmd != nil && m.cmd.Process != nil {
		m.Kill()
	}
	if m.conn != nil {
		m.conn.Close()
	}
	m.Stop()
}

// Log is what ModemManager has written; read it when that has ended.
func (m *Manager) Log() string { return m.log.String() }

// Plug gives ModemManager a modem, and returns its object's path.
func (m *Manager) Plug(id string, prepare func(*Modem)) (*Modem, dbus.ObjectPath, error) {
	m.modems++
	port := filepath.Join(m.dir, fmt.Sprintf("modem%d", m.modems))
	modem, err := NewModem(port)
	if err != nil {
		return nil, "", err
	}
	if prepare != nil {
		prepare(modem)
	}
	before, err := m.objects()
	if err == nil {
		err = m.profile(id, "generic", port)
	}
	var path dbus.ObjectPath
	if err == nil {
		err = await(m.ctx, "a modem", func() error {
			now, err := m.objects()
			for p, interfaces := range now {
				if interfaces[ModemInterface] != nil && before[p][ModemInterface] == nil {
					path = p
					return nil
				}
			}
			return errors.Join(errors.New("there is none"), err)
		})
	}
	if err != nil {
		modem.Close()
		return nil, "", err
	}
	return modem, path, nil
}

// Unplug takes a modem away from ModemManager, which does not notice by itself
// that a socket is closed. It does so when it is told of another plugin, though
// it then says that there is none of that name.
func (m *Manager) Unplug(id string) { m.profile(id, "none") }

func (m *Manager) profile(id, plugin string, ports ...string) error {
	err := m.conn.Object(managerName, managerPath).Call(managerName+".Test.SetProfile", 0, id, plugin, ports).Err
	if err != nil {
		return fmt.Errorf("telling ModemManager of a modem: %w", err)
	}
	return nil
}

// Call calls a method of a modem; its name is relative to ModemManager's.
func (m *Manager) Call(path dbus.ObjectPath, method string, args ...any) error {
	if err := m.conn.Object(managerName, path).Call(managerName+"."+method, 0, args...).Err; err != nil {
		return fmt.Errorf("calling %s: %w", method, err)
	}
	return nil
}

// Get is a property of an object; its name is relative to ModemManager's.
func (m *Manager) Get(path dbus.ObjectPath, property string) (any, error) {
	v, err := m.conn.Object(managerName, path).GetProperty(managerName + "." + property)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", property, err)
	}
	return v.Value(), nil
}

// Enable switches a modem on, as soon as ModemManager is done with what it does
// with one that is new or unlocked.
func (m *Manager) Enable(path dbus.ObjectPath) error {
	return await(m.ctx, "the modem to be switched on", func() error { return m.Call(path, "Modem.Enable", true) })
}

func (m *Manager) objects() (all map[dbus.ObjectPath]map[string]map[string]dbus.Variant, err error) {
	// One that has just got its name may lose what it is asked.
	ctx, cancel := context.WithTimeout(m.ctx, time.Second)
	defer cancel()
	err = m.conn.Object(managerName, managerPath).CallWithContext(ctx, "org.freedesktop.DBus.ObjectManager.GetManagedObjects", 0).Store(&all)
	return all, err
}

// SIM is the path of a modem's card.
func (m *Manager) SIM(path dbus.ObjectPath) (dbus.ObjectPath, error) {
	v, err := m.Get(path, "Modem.Sim")
	sim, _ := v.(dbus.ObjectPath)
	if err == nil && !strings.Contains(string(sim), "/SIM/") {
		err = fmt.Errorf("%s has no SIM", path)
	}
	return sim, err
}

// Restart starts bus and ModemManager anew, after both have been ended.
func (m *Manager) Restart() error {
	err := m.Bus.Start(m.ctx)
	if err == nil {
		m.conn.Close()
		m.conn, err = m.Connect()
	}
	if err == nil {
		err = m.Start()
	}
	return err
}
