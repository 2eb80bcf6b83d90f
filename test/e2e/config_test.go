// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// reload has the agent read a new configuration, and waits for what it is to
// say of it: a problem with section.option, or none at all.
func reload(t *testing.T, r *rig.Rig, uci, problem string) {
	t.Helper()
	must(t, r.WriteUCI(uci))
	must(t, r.Agent.Signal(syscall.SIGHUP))
	eventually(t, 5*time.Second, func() error {
		ps := status(t, r).Problems
		for _, p := range ps {
			if p.Section+"."+p.Option == problem {
				return nil
			}
		}
		if len(ps) == 0 && problem == "" {
			return nil
		}
		return fmt.Errorf("want %q, problems are %+v", problem, ps)
	})
}

// check runs braid check on the agent's configuration.
func check(t *testing.T, r *rig.Rig) (output string, exit int) {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, "braid"), "check", "-uci", r.UCI).Output()
	if status := (*exec.ExitError)(nil); errors.As(err, &status) {
		return string(out), status.ExitCode()
	}
	must(t, err)
	return string(out), 0
}

func TestBadConfiguration(t *testing.T) {
	bad := strings.Replace(rig.DefaultUCI, "option role 'bond'", "option role 'bonded'", 1)
	r := start(t, rig.Options{Idle: true, UCI: bad})
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	must(t, r.StartAgent())
	convert := func(want uint64) {
		t.Helper()
		if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) }); c.Convert != want {
			t.Errorf("the agent counted %+v, want %d converted", c, want)
		}
	}

	// From the start there is nothing to fall back on: idle, and it says why.
	s := status(t, r)
	if s.State != report.StateDisabled || len(s.Problems) != 1 || s.Problems[0].Section != "lte" || s.Problems[0].Option != "role" {
		t.Errorf("state %s, problems %+v", s.State, s.Problems)
	}
	convert(0)
	out, exit := check(t, r)
	if want := filepath.Join(r.UCI, "braid") + `:lte.role: `; exit != 3 || !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 1 {
		t.Errorf("braid check: exit status %d, %q, want %q and the reason", exit, out, want)
	}

	reload(t, r, rig.DefaultUCI, "")
	convert(1)
	if out, exit := check(t, r); exit != 0 || out != "" {
		t.Errorf("braid check: exit status %d, %q", exit, out)
	}

	// A bad one on the way leaves the good one in force, interrupting nothing.
	stop := background(t, r.FromHost(lab.Server4))
	reload(t, r, bad, "lte.role")
	convert(1)
	if s := status(t, r); s.State != report.StateOK || len(s.WANs) != 2 {
		t.Errorf("state %s, WANs %+v", s.State, s.WANs)
	}
	reload(t, r, "config globals 'globals'\n\toption enabled '1\n", "braid.")
	convert(1)

	// And a good one is taken, for what is open too.
	reload(t, r, strings.Replace(rig.DefaultUCI, "option role 'bond'", "option role 'off'", 1), "")
	eventually(t, 5*time.Second, func() error {
		if cs := connections(t, r); len(cs) != 1 || len(cs[0].Subflows) != 1 {
			return fmt.Errorf("connections %+v", cs)
		}
		return nil
	})
	convert(1)
	stop()
}
