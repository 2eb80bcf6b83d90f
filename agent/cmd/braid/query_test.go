// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"braid/agent/report"
)

// braid runs the program.
func braid(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestTables(t *testing.T) {
	a := startAgent(t, startBus(t))
	for _, args := range [][]string{{"status"}, {"wans"}, {"connections", "-limit", "3"}, {"explain", "192.0.2.80"}} {
		status, out, errs := braid(t, append(args, "-ubus", a.socket)...)
		if status != exitOK || errs != "" {
			t.Errorf("%v: status %d, %s", args, status, errs)
		}
		if strings.Contains(out, "\x1b") {
			t.Errorf("%v: colour without a terminal", args)
		}
		for line := range strings.Lines(out) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%v: %d columns: %s", args, n, line)
			}
		}
		golden(t, filepath.Join("testdata", args[0]+".txt"), out)
	}
}

// golden compares with a file, which UPDATE=1 writes anew.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got:\n%s", file, diff)
	}
}

// What is printed with -json is what encoding/json would print of the model.
func TestJSON(t *testing.T) {
	a := startAgent(t, startBus(t))
	for _, tt := range []struct {
		model any
		args  []string
	}{
		{new(report.Status), []string{"status"}},
		{new(report.WANs), []string{"wans"}},
		{new(report.Connections), []string{"connections", "-limit", "9999"}},
		{new(report.Explanation), []string{"explain", "192.0.2.80"}},
	} {
		status, out, errs := braid(t, append(tt.args, "-json", "-ubus", a.socket)...)
		if status != exitOK || errs != "" {
			t.Errorf("%v: status %d, %s", tt.args, status, errs)
		}
		if err := json.Unmarshal([]byte(out), tt.model); err != nil {
			t.Fatalf("%v: %v", tt.args, err)
		}
		want, err := json.MarshalIndent(tt.model, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want)+"\n", out); diff != "" {
			t.Errorf("%v: -encoding/json +braid:\n%s", tt.args, diff)
		}
	}
}

func TestConnectionsPages(t *testing.T) {
	a := startAgent(t, startBus(t))
	for limit, want := range map[string]int{"1": 1, "500": 500, "501": 501, "9999": manyConnections} {
		status, out, errs := braid(t, "connections", "-json", "-limit", limit, "-ubus", a.socket)
		var cs report.Connections
		if err := json.Unmarshal([]byte(out), &cs); err != nil || status != exitOK {
			t.Fatalf("status %d, %v, %s", status, err, errs)
		}
		if len(cs.Connections) != want || cs.Total != manyConnections {
			t.Errorf("limit %s: %d of %d", limit, len(cs.Connections), cs.Total)
		}
		for i, c := range cs.Connections {
			if c.ID != uint64(i) {
				t.Fatalf("limit %s: connection %d is %d", limit, i, c.ID)
			}
		}
	}
}

func TestExitStatus(t *testing.T) {
	bus := startBus(t)
	none := filepath.Join(t.TempDir(), "ubus.sock")
	valid, invalid := t.TempDir(), t.TempDir()
	for dir, text := range map[string]string{valid: "config globals 'globals'\n", invalid: "config globals 'globals'\n\toption enabled 'maybe'\n"} {
		if err := os.WriteFile(filepath.Join(dir, "braid"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args   []string
		status int
		says   string
	}{
		{nil, exitUsage, "usage:"},
		{[]string{"help"}, exitOK, ""},
		{[]string{"halt"}, exitUsage, `no command "halt"`},
		{[]string{"status", "-loud"}, exitUsage, "-loud"},
		{[]string{"status", "now"}, exitUsage, `unexpected "now"`},
		{[]string{"status", "-ubus", none}, exitFailed, "braid status: asking the agent:"},
		{[]string{"status", "-ubus", bus}, exitFailed, "the agent does not run"},
		{[]string{"connections", "-limit", "0"}, exitUsage, "usage:"},
		{[]string{"explain"}, exitUsage, "usage:"},
		{[]string{"explain", "192.0.2.80:99999"}, exitUsage, "is no port"},
		{[]string{"explain", "a b"}, exitUsage, "want ADDRESS"},
		{[]string{"explain", "nowhere.invalid", "-ubus", bus}, exitFailed, "resolving nowhere.invalid"},
		{[]string{"check", "-uci", valid}, exitOK, ""},
		{[]string{"check", "-uci", invalid}, exitConfig, ""},
		{[]string{"check", "-uci", none}, exitFailed, "no such file"},
		{[]string{"version"}, exitOK, ""},
		{[]string{"--version"}, exitOK, ""},
		{[]string{"--version", "please"}, exitUsage, `unexpected "please"`},
		{[]string{"-h"}, exitOK, ""},
		{[]string{"agent", "--help"}, exitOK, ""},
		{[]string{"connections", "-limit", "3", "-help"}, exitOK, ""},
		{[]string{"version", "--help"}, exitOK, ""},
	} {
		status, _, errs := braid(t, tt.args...)
		if status != tt.status || !strings.Contains(errs, tt.says) || (tt.says == "") != (errs == "") {
			t.Errorf("braid %v: status %d, want %d: %s", tt.args, status, tt.status, errs)
		}
	}
}

// OpenWrt's package tests look for the version in what is printed.
func TestVersion(t *testing.T) {
	for arg, want := range map[string]string{"version": "dev\n", "--version": "braid dev\n"} {
		if _, out, _ := braid(t, arg); out != want {
			t.Errorf("braid %s prints %q, want %q", arg, out, want)
		}
	}
	for name := range commands {
		if status, out, errs := braid(t, name, "--help"); status != exitOK || out != usage || errs != "" {
			t.Errorf("braid %s --help: status %d, %q, %q", name, status, out, errs)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, tt := range []struct {
		arg, addr string
		port      uint16
	}{
		{"192.0.2.80", "192.0.2.80", 443},
		{"192.0.2.80:80", "192.0.2.80", 80},
		{"::ffff:192.0.2.80", "192.0.2.80", 443},
		{"2001:db8::1", "2001:db8::1", 443},
		{"[2001:db8::1]", "2001:db8::1", 443},
		{"[2001:db8::1]:8443", "2001:db8::1", 8443},
		{"localhost:22", "", 22},
	} {
		d, err := lookup(t.Context(), tt.arg)
		if err != nil || d.Port != tt.port || tt.addr != "" && d.Addr.String() != tt.addr || tt.addr == "" && !d.Addr.IsLoopback() {
			t.Errorf("%s: %v port %d, %v", tt.arg, d.Addr, d.Port, err)
		}
	}
}
