// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cellular

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

// patience is how long a program is given to start, on a loaded machine.
const patience = 20 * time.Second

// Bus is a system bus of one's own.
type Bus struct {
	Address string // for DBUS_SYSTEM_BUS_ADDRESS

	dir string
	cmd *exec.Cmd
}

// StartBus starts a bus whose files are in dir.
func StartBus(ctx context.Context, dir string) (*Bus, error) {
	b := &Bus{Address: "unix:path=" + filepath.Join(dir, "bus"), dir: dir}
	return b, b.Start(ctx)
}

// Start starts a bus that has been stopped, at its old address.
func (b *Bus) Start(ctx context.Context) error {
	os.Remove(filepath.Join(b.dir, "bus"))
	config := filepath.Join(b.dir, "bus.conf")
	// Everybody may own any name and talk to anybody: there is nobody else here.
	text := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>` + b.Address + `</listen>
  <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	b.cmd = exec.CommandContext(ctx, "dbus-daemon", "--nofork", "--nopidfile", "--config-file="+config)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.cmd.Start(); err != nil {
		return fmt.Errorf("starting a bus: %w", err)
	}
	return await(ctx, "the bus", func() error {
		c, err := b.Connect()
		if err == nil {
			c.Close()
		}
		return err
	})
}

// Stop ends the bus.
func (b *Bus) Stop() {
	b.cmd.Process.Kill()
	b.cmd.Wait()
}

// Connect gives a connection of one's own.
func (b *Bus) Connect() (*dbus.Conn, error) { return dbus.Connect(b.Address) }

// await repeats a check until it succeeds.
func await(ctx context.Context, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, errors.Join(err, ctx.Err()))
		case <-time.After(5 * time.Millisecond):
		}
	}
}
