// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
)

// On a slow router with much to do nft takes seconds. Connections are taken all
// the time that a change of the network takes to reach the packet filter.
func TestSlowPacketFilter(t *testing.T) {
	path, err := exec.LookPath("nft")
	must(t, err)
	dir := t.TempDir()
	slow, runs := filepath.Join(dir, "slow"), filepath.Join(dir, "runs")
	must(t, os.WriteFile(filepath.Join(dir, "nft"), fmt.Appendf(nil, `#!/bin/sh
if [ -e %s ]; then echo >>%s; sleep 6; fi
exec %s "$@"
`, slow, runs, path), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	r := start(t, rig.Options{})
	working(t, r, "lte", true)
	must(t, os.WriteFile(slow, nil, 0o600))
	defer os.Remove(slow)                                    // before the agent stops
	sh(t, r.Gateway, "ip addr add 192.168.77.1/24 dev lan0") // a network that is not to be taken
	began := time.Now()
	for time.Since(began) < 7*time.Second {
		p, err := r.FromHost(lab.Server4).Identify(t.Context())
		must(t, err)
		if p.Remote.Addr() != lab.Converter4 {
			t.Fatalf("after %v the server is called by %v", time.Since(began), p.Remote)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if n, err := os.ReadFile(runs); len(n) == 0 {
		t.Errorf("nft was not run: %v", err)
	}
}
