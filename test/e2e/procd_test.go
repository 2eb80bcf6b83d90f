// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// procd plays OpenWrt's, which has one process to the name of an instance: one
// that ends stays in its list until it has, and whoever starts another one of
// that name meanwhile has it forked only then (procd of 24.10).
type procd struct {
	*rig.Rig
	instances map[string]*rig.Process
}

// start runs what the init script's start_service opens.
func (p *procd) start(t *testing.T) {
	t.Helper()
	const script = `
		n=0
		procd_open_instance() { n=$((n + 1)); echo "open ${1:-instance$n}"; }
		procd_set_param() { [ "$1" != command ] || echo "$@"; }
		procd_close_instance() { :; }
		. ../../files/etc/init.d/braid
		start_service`
	lines := strings.Split(sh(t, p.Host(), script), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[1], "command /usr/sbin/braid agent") {
		t.Fatalf("the init script opens %q", lines)
	}
	name := strings.TrimPrefix(lines[0], "open ")
	if old := p.instances[name]; old != nil {
		old.Wait(time.Minute)
	}
	must(t, p.StartAgent())
	p.instances[name] = p.Agent
}

// stop tells all to end, and waits for none.
func (p *procd) stop() {
	for _, i := range p.instances {
		i.Signal(syscall.SIGTERM)
	}
}

// After a restart the new agent takes what the LAN opens at once, while the old
// one carries a download on that takes longer.
func TestRestartByProcd(t *testing.T) {
	const soon = 5 * time.Second // of the 30 that the old one has
	if _, err := os.Stat("../../files/etc/init.d/braid"); err != nil {
		t.Fatal(err)
	}
	r := start(t, rig.Options{Lab: lines(), Idle: true})
	must(t, r.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"))
	p := procd{r, make(map[string]*rig.Process)}
	p.start(t)
	old := r.Agent
	stop := background(t, r.FromHost(lab.Server4))
	eventually(t, 2*time.Second, func() error {
		if s := status(t, r); s.Connections.Open != 1 {
			return fmt.Errorf("the old agent carries %+v", s.Connections)
		}
		return nil
	})
	began := time.Now()
	p.stop()
	p.start(t)
	if d := time.Since(began); d > soon {
		t.Errorf("the new agent is there after %v", d)
	}
	eventually(t, 2*time.Second, func() error {
		s, err := r.Status()
		if err == nil && s.Connections.Total > 0 {
			err = fmt.Errorf("it is the old one that answers: %+v", s.Connections)
		}
		return err
	})
	if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) }); c.Convert != 1 {
		t.Errorf("the new agent counted %+v", c)
	}
	if old.Wait(0) == nil {
		t.Error("the old agent has ended, and the download with it")
	}
	if rep := stop(); rep.Stall > time.Second {
		t.Errorf("the download has stalled for %v", rep.Stall)
	}
}
