// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/agent/ubus"
	"braid/agent/uci"
	"braid/test/bus"
)

// rpcd's answer to uci get for a file that go-uci misreads.
func answer() (any, error) {
	return map[string]any{"values": map[string]any{
		"cfg01": map[string]any{".anonymous": true, ".type": "rule", ".name": "cfg01", ".index": 1, "path": "pass"},
		"wan":   map[string]any{".anonymous": false, ".type": "wan", ".name": "wan", ".index": 0, "interface": []string{"it's", "it's"}},
	}}, nil
}

func TestLibUCI(t *testing.T) {
	socket := bus.Start(t)
	bus.Publish(t, socket, "uci", "get", answer)
	dir := t.TempDir()
	pending := filepath.Join(dir, "pending")
	l := libuci{socket: socket, pending: pending}
	want := []uci.Section{
		{Type: "wan", Name: "wan", Options: []uci.Option{{Name: "interface", Values: []string{"it's", "it's"}, List: true}}},
		{Type: "rule", Options: []uci.Option{{Name: "path", Values: []string{"pass"}}}},
	}
	file := filepath.Join(dir, "braid")
	if err := os.WriteFile(file, []byte("config wan 'wan'\n\tlist interface 'it'\\''s'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := uci.Load(t.Context(), dir, "braid", l)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, p.Sections); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	// An empty file of changes is what a commit leaves behind.
	if err := os.Mkdir(pending, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pending, "braid"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Package(t.Context(), "braid"); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(pending, "braid"), []byte("braid.wan.role='off'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = uci.Load(t.Context(), dir, "braid", l)
	var syntax *uci.SyntaxError
	if !errors.As(err, &syntax) || !strings.Contains(err.Error(), "uncommitted") {
		t.Errorf("with uncommitted changes: %v", err)
	}
}

// Changes that are made while rpcd answers may be in its answer.
func TestLibUCIRace(t *testing.T) {
	socket := bus.Start(t)
	pending := t.TempDir()
	bus.Publish(t, socket, "uci", "get", func() (any, error) {
		if err := os.WriteFile(filepath.Join(pending, "braid"), []byte("braid.wan.role='off'\n"), 0o600); err != nil {
			return nil, err
		}
		return answer()
	})
	if got, err := (libuci{socket: socket, pending: pending}).Package(t.Context(), "braid"); err == nil {
		t.Errorf("took %v", got)
	}
}

func TestLibUCIAbsent(t *testing.T) {
	l := libuci{socket: bus.Start(t), pending: t.TempDir()}
	if _, err := l.Package(t.Context(), "braid"); !errors.Is(err, ubus.ErrNotFound) {
		t.Errorf("without rpcd: %v", err)
	}
	l.socket += ".none"
	if _, err := l.Package(t.Context(), "braid"); err == nil {
		t.Error("without ubus: no error")
	}
}

// rpcd knows of one directory.
func TestLibUCIDirectory(t *testing.T) {
	for dir, asked := range map[string]bool{"/etc/config": true, "/etc/config/": true, "/tmp/config": false} {
		if got := LibUCI(dir, "") != nil; got != asked {
			t.Errorf("%s: asked %v", dir, got)
		}
	}
}
