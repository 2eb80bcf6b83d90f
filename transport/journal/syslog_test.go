// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"braid/transport/journal"
)

// logd listens as OpenWrt's does.
func logd(t *testing.T, socket string) *net.UnixConn {
	t.Helper()
	os.Remove(socket)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// said is what logd keeps of the next line: it takes off the priority, and the
// 16 characters of a time if a space is the last of them.
func said(t *testing.T, conn *net.UnixConn) (priority, text string) {
	t.Helper()
	b := make([]byte, 4096)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)^<([0-9]+)>(.{15}) (.*)\n$`).FindStringSubmatch(string(b[:n]))
	if m == nil {
		t.Fatalf("datagram %q", b[:n])
	}
	if _, err := time.Parse(time.Stamp, m[2]); err != nil {
		t.Error(err)
	}
	return m[1], m[3]
}

// Level and time are syslog's, once.
func TestSyslog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	conn := logd(t, socket)
	var stderr strings.Builder
	l := journal.NewSyslog(socket, "braid", &stderr)
	l.SetLevel(journal.Debug)
	for _, tt := range []struct {
		write    func(string, ...any)
		priority string // daemon, and syslog's severity
	}{
		{l.Debug, "31"}, {l.Info, "30"}, {l.Warn, "28"}, {l.Error, "27"},
	} {
		tt.write("role set", "wan", "lte", "text", "two\nlines")
		priority, text := said(t, conn)
		if want := fmt.Sprintf(`braid[%d]: msg="role set" wan=lte text="two\nlines"`, os.Getpid()); priority != tt.priority || text != want {
			t.Errorf("priority %s, want %s: %s, want %s", priority, tt.priority, text, want)
		}
	}
	if stderr.Len() > 0 {
		t.Errorf("on standard error: %s", &stderr)
	}
}

// Nothing is lost while there is no daemon, and one that is started anew has
// all again.
func TestSyslogComesAndGoes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	var stderr strings.Builder
	l := journal.NewSyslog(socket, "braid", &stderr)
	l.Warn("nobody")
	for _, word := range []string{"one", "two"} {
		conn := logd(t, socket)
		l.Info(word)
		if _, text := said(t, conn); !strings.HasSuffix(text, ": msg="+word) {
			t.Errorf("it said %s", text)
		}
		conn.Close()
	}
	l.Error("gone")
	if lines := regexp.MustCompile(`^time=\S+ level=WARN msg=nobody\ntime=\S+ level=ERROR msg=gone\n$`); !lines.MatchString(stderr.String()) {
		t.Errorf("on standard error: %s", &stderr)
	}
}

// A daemon that has stopped to read delays nobody for long.
func TestSyslogStuck(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	conn := logd(t, socket)
	var stderr strings.Builder
	l := journal.NewSyslog(socket, "braid", &stderr)
	for range 10000 {
		if l.Info("again"); stderr.Len() > 0 {
			break
		}
	}
	if stderr.Len() == 0 {
		t.Error("the daemon's queue has no end")
	}
	conn.Close()
}
