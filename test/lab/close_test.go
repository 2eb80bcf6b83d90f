// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"braid/test/lab"
)

// TestMain lets the test binary be a process that makes a World and is killed.
func TestMain(m *testing.M) {
	if os.Getenv("LAB_VICTIM") == "" {
		os.Exit(m.Run())
	}
	w, err := lab.New(context.Background(), lab.Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	sleeper := w.Host().Command(context.Background(), "sleep", "1000")
	if err := sleeper.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(sleeper.Process.Pid)
	select {}
}

// traces are what a World of a process leaves: namespaces of that name, and links here.
func traces(t *testing.T, pid int) []string {
	t.Helper()
	found, err := filepath.Glob(fmt.Sprintf("/run/netns/braid-%d-*", pid))
	if err != nil {
		t.Fatal(err)
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		found = append(found, l.Name)
	}
	return found
}

// gone waits until a process has ended, even if nobody has waited for it.
func gone(pid int) bool {
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") {
			return true
		}
	}
	return false
}

// start runs a shell with a child in the background, and returns the process ids of both.
func start(t *testing.T, ctx context.Context, n *lab.Node) (*exec.Cmd, [2]int) {
	t.Helper()
	c := n.Command(ctx, "sh", "-c", "sleep 1000 & echo $$ $!; wait")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var pids [2]int
	if _, err := fmt.Fscan(out, &pids[0], &pids[1]); err != nil {
		t.Fatal(err)
	}
	return c, pids
}

func TestClose(t *testing.T) {
	before := traces(t, os.Getpid())
	ends := []struct {
		name string
		end  func(w *lab.World, cancel func()) error
	}{
		{"Close", func(w *lab.World, _ func()) error { return w.Close() }},
		{"cancel", func(w *lab.World, cancel func()) error {
			cancel()
			return w.Close() // waits for the end
		}},
	}
	for _, tt := range ends {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w, err := lab.New(ctx, lab.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if cmp.Equal(before, traces(t, os.Getpid())) {
				t.Error("a World leaves no traces: these are none")
			}
			c, pids := start(t, t.Context(), w.Gateway)
			if err := tt.end(w, cancel); err != nil {
				t.Error(err)
			}
			c.Wait()
			if !gone(pids[0]) || !gone(pids[1]) {
				t.Errorf("processes %v live on", pids)
			}
			if diff := cmp.Diff(before, traces(t, os.Getpid())); diff != "" {
				t.Errorf("traces (-before +after):\n%s", diff)
			}
		})
	}
	// The devices of a namespace go with it; that needs no handle to be left open.
	if fds := namespaceHandles(t); len(fds) != 0 {
		t.Errorf("handles of namespaces are open: %v", fds)
	}
}

// namespaceHandles are the open descriptors of this process that keep a namespace alive.
func namespaceHandles(t *testing.T) []string {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, fd := range fds {
		// A namespace of the lab reads net:[N] or the path of its mount.
		if to, err := os.Readlink(fd); err == nil && (strings.Contains(to, "net:[") || strings.Contains(to, "netns")) {
			found = append(found, to)
		}
	}
	return found
}

func TestSweep(t *testing.T) {
	before := traces(t, os.Getpid())
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), "LAB_VICTIM=1")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var sleeper int
	if _, err := fmt.Sscan(line, &sleeper); err != nil {
		t.Fatalf("victim says %q", line)
	}
	// What lives is left alone.
	newWorld(t, lab.Options{}).Close()
	if n := len(traces(t, victim.Process.Pid)) - len(before); n != 7 {
		t.Errorf("victim has %d namespaces, want 7", n)
	}
	victim.Process.Kill()
	victim.Wait()
	newWorld(t, lab.Options{}).Close()
	if diff := cmp.Diff(before, traces(t, victim.Process.Pid)); diff != "" {
		t.Errorf("traces (-before +after):\n%s", diff)
	}
	if !gone(sleeper) {
		t.Errorf("process %d of the victim lives on", sleeper)
	}
}

func TestCommand(t *testing.T) {
	w := newWorld(t, lab.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	c, pids := start(t, ctx, w.Host())
	cancel()
	if err := c.Wait(); err == nil {
		t.Error("a killed command succeeds")
	}
	if !gone(pids[0]) || !gone(pids[1]) {
		t.Errorf("processes %v live on", pids)
	}
	out, err := w.Gateway.Run("ls /sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"fibre", "lan0", "lo", "lte"}, strings.Fields(out)); diff != "" {
		t.Errorf("devices of the gateway (-want +got):\n%s", diff)
	}
	if _, err := w.Gateway.Run("echo because >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "exit status 3: because") {
		t.Errorf("error is %v", err)
	}
}

func TestNode(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.Sysctl("net.ipv4.tcp_fastopen", "3"); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[*lab.Node]string{w.Gateway: "3\n", w.Server: "1\n"} {
		if out, err := n.Run("cat /proc/sys/net/ipv4/tcp_fastopen"); err != nil || out != want {
			t.Errorf("tcp_fastopen in %s is %q, want %q, error %v", n.Name, out, want, err)
		}
	}
	if err := w.Gateway.Sysctl("net.ipv4.nonsense", "3"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("setting a key that is none: %v", err)
	}
	mine := errors.New("mine")
	if err := w.Gateway.Do(func() error { return mine }); err != mine {
		t.Errorf("error of Do is %v", err)
	}
	for _, name := range []string{"TcpExtTCPFastOpenActive", "MPTcpExtMPJoinSynAckRx", "TcpActiveOpens", "Ip6InReceives"} {
		w.Gateway.MIB(name)
	}
	defer func() {
		if recover() == nil {
			t.Error("a counter that is none reads as a number")
		}
	}()
	w.Gateway.MIB("TcpExtNonsense")
}

func TestNeedsRoot(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const keep, nobody = ^uintptr(0), 65534
	// The bare system call changes this thread alone.
	seteuid := func(uid uintptr) {
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, keep, uid, keep); e != 0 {
			t.Fatal(e)
		}
	}
	seteuid(nobody)
	_, err := lab.New(t.Context(), lab.Options{})
	seteuid(0)
	if err == nil || !strings.Contains(err.Error(), "needs root") {
		t.Errorf("without root: %v", err)
	}
}
