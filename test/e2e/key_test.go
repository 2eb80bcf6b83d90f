// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
	"braid/transport/convert"
)

// A gateway is paired with a converter in one line, and proves its key from
// then on. Who has sniffed its Connects opens nothing with them; a restart of
// the converter, which forgets all tickets, costs no connection; a client that
// is removed is refused.
func TestKey(t *testing.T) {
	r := start(t, rig.Options{Lab: lines(), Idle: true})
	_, err := r.Serve(r.Server, false, speaker)
	must(t, err)
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "mcp.toml"), filepath.Join(dir, "control")
	must(t, os.WriteFile(file, nil, 0o600))
	serve := []string{"-config", file, "-socket", socket, "-log", "debug"}
	must(t, r.StartMCP(serve...))
	mcp := func(args ...string) string {
		t.Helper()
		out, err := r.Converter.Command(t.Context(), filepath.Join(bin, "braid-mcp"), args...).Output()
		must(t, err)
		return strings.TrimSpace(string(out))
	}
	pair := func(text string) (string, int) {
		t.Helper()
		cmd := r.Gateway.Command(t.Context(), filepath.Join(bin, "braid"), "pair", text)
		out, err := cmd.Output()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	paired := mcp("add", "-config", file, "-socket", socket, "home")
	if !strings.HasPrefix(paired, "braid://192.0.2.10:5124#") {
		t.Fatalf("add printed %q", paired)
	}
	section, status := pair(paired)
	if status != 0 || !strings.Contains(section, "list address '192.0.2.10'") || !strings.Contains(section, "option key '") {
		t.Fatalf("pair: status %d, %q", status, section)
	}
	for text, want := range map[string]int{
		paired[:len(paired)-2] + "00":                       1, // almost certainly another key
		strings.Replace(paired, "5124", "5125", 1):          1,
		"http://192.0.2.10:5124#" + paired[len(paired)-64:]: 2,
		"braid://192.0.2.10:5124#abc":                       2,
		"braid://192.0.2.10#" + paired[len(paired)-64:]:     2,
		"": 2,
	} {
		if out, status := pair(text); status != want || out != "" {
			t.Errorf("pair %q: status %d, %q, want %d", text, status, out, want)
		}
	}

	sniffed := sniff(t, r.Core)
	must(t, r.WriteUCI(strings.Replace(rig.DefaultUCI, rig.DefaultUCI[strings.Index(rig.DefaultUCI, "config converter"):], section, 1)))
	must(t, r.StartAgent())
	eventually(t, 5*time.Second, func() error {
		s, err := r.Status()
		if err == nil && (len(s.Converters) != 1 || s.Converters[0].State != "up") {
			err = errors.New("the converter is not up")
		}
		return err
	})
	if c := carriedBy(t, r, lab.Server4, 1e6); c.Converter != "mcp" {
		t.Errorf("carried by %+v", c)
	}

	connects := sniffed()
	if len(connects) == 0 {
		t.Fatal("no Connect was sniffed")
	}
	for i, b := range connects {
		c, err := dial(t, r.Server, lab.Converter4, 5124)
		must(t, err)
		_, err = c.Write(b)
		must(t, err)
		m, err := convert.Read(c)
		e, refused := convert.Find[convert.Error](m)
		if err != nil || !refused || e.Code != convert.MissingCookie {
			t.Errorf("replayed Connect %d: %+v, %v", i, m, err)
		}
		c.Close()
	}

	r.MCP.Kill()
	must(t, r.StartMCP(serve...))
	for range 5 {
		transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5)
	}
	if s, err := r.Status(); err != nil || s.Connections.Failed != 0 {
		t.Errorf("failed: %+v, %v", s.Connections, err)
	}
	if c := carriedBy(t, r, lab.Server4, 1e6); c.Converter != "mcp" {
		t.Errorf("after a restart: carried by %+v", c)
	}
	if out := mcp("status", "-socket", socket); !strings.Contains(out, "home") || !strings.Contains(out, "198.51.100.2") {
		t.Errorf("status: %s", out)
	}
	mcp("remove", "-config", file, "-socket", socket, "home")
	if out, status := pair(paired); status != 1 {
		t.Errorf("pair after removal: %d, %q", status, out)
	}
}

// sniff collects the Connects that pass a node, until what it returns is
// called.
func sniff(t *testing.T, n *lab.Node) (connects func() [][]byte) {
	t.Helper()
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
	fd := -1
	must(t, n.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		return err
	}))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100e3}))
	var stop atomic.Bool
	resultC := make(chan [][]byte)
	go func() {
		defer unix.Close(fd)
		var found [][]byte
		frame := make([]byte, 64<<10)
		for !stop.Load() {
			n, _, err := unix.Recvfrom(fd, frame, 0)
			if err != nil {
				continue
			}
			// Header, total length before its magic number, then Connect.
			at := bytes.Index(frame[:n], []byte{0x22, 0x63, byte(convert.TypeConnect)})
			if at < 2 || frame[at-2] != convert.Version {
				continue
			}
			if m := frame[at-2 : n]; len(m) >= int(m[1])*4 {
				found = append(found, bytes.Clone(m[:int(m[1])*4]))
			}
		}
		resultC <- found
	}()
	return func() [][]byte {
		stop.Store(true)
		return <-resultC
	}
}
