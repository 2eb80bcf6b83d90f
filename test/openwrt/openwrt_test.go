//go:build openwrt

// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package openwrt runs the agent among OpenWrt's own programs, on the gateway
// of a lab. UBUSD, UBUS, UCI and NETIFD name them.
package openwrt

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
)

// uciDir is where uci has its files, pendingDir where uncommitted changes are. Each
// program sees the router's own there.
const (
	uciDir     = "/etc/config"
	pendingDir = "/tmp/.uci"
)

// router is the lab's gateway with OpenWrt's programs on it.
type router struct {
	*rig.Rig
	dir string
	bin string
}

func env(t *testing.T, name string) string {
	t.Helper()
	path := os.Getenv(name)
	if path == "" {
		t.Fatalf("%s is not set", name)
	}
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRouter(t *testing.T) *router {
	t.Helper()
	w := &router{bin: t.TempDir(), dir: t.TempDir()}
	build := exec.Command("go", "build", "-o", w.bin, "./agent/cmd/braid", "./mcp/cmd/braid-mcp")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	for _, dir := range []string{"config", "run", "pending", "acl"} {
		must(t, os.Mkdir(filepath.Join(w.dir, dir), 0o755))
	}
	for _, dir := range []string{uciDir, pendingDir} { // to mount upon
		if os.Mkdir(dir, 0o755) == nil {
			t.Cleanup(func() { os.Remove(dir) })
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	var err error
	w.Rig, err = rig.New(ctx, rig.Options{Bin: w.bin, Idle: true})
	must(t, err)
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	must(t, w.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"))
	return w
}

func (w *router) socket() string { return filepath.Join(w.dir, "ubus.sock") }

func (w *router) write(t *testing.T, file, text string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(w.dir, "config", file), []byte(text), 0o644))
}

// command is a program on the router.
func (w *router) command(args ...string) *exec.Cmd {
	const script = `mount --bind "$0/config" ` + uciDir + `; mount --bind "$0/pending" ` + pendingDir + `; mount --bind "$0/run" /var/run; exec "$@"`
	return w.Gateway.Command(context.Background(), "sh", append([]string{"-ec", script, w.dir}, args...)...)
}

// start runs a program until stop or the test's end.
func (w *router) start(t *testing.T, args ...string) (stop func()) {
	t.Helper()
	var log bytes.Buffer
	cmd := w.command(args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	must(t, cmd.Start())
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
			if t.Failed() {
				t.Logf("%v:\n%s", args, &log)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func (w *router) startUbusd(t *testing.T) (stop func()) {
	t.Helper()
	stop = w.start(t, env(t, "UBUSD"), "-s", w.socket(), "-A", filepath.Join(w.dir, "acl"))
	eventually(t, func() error {
		c, err := net.Dial("unix", w.socket())
		if err == nil {
			c.Close()
		}
		return err
	})
	return stop
}

func (w *router) startNetifd(t *testing.T) (stop func()) {
	t.Helper()
	return w.start(t, env(t, "NETIFD"), "-S", "-s", w.socket(), "-c", uciDir, "-h", "/bin/true", "-r", filepath.Join(w.dir, "resolv.conf"))
}

// ubus runs the command and returns what it printed.
func (w *router) ubus(args ...string) (string, error) {
	cmd := w.command(append([]string{os.Getenv("UBUS"), "-s", w.socket()}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("ubus %v: %w: %s", args, err, out)
	}
	return string(out), err
}

// call calls a method of braid's.
func (w *router) call(v any, args ...string) error {
	out, err := w.ubus(append([]string{"call", "braid"}, args...)...)
	if err == nil && v != nil {
		err = json.Unmarshal([]byte(out), v)
	}
	return err
}

func (w *router) state(name string) (string, error) {
	var all report.WANs
	if err := w.call(&all, "wans"); err != nil {
		return "", err
	}
	for _, x := range all.WANs {
		if x.Name == name {
			return x.State, nil
		}
	}
	return "", fmt.Errorf("no WAN %s in %+v", name, all)
}

func (w *router) await(t *testing.T, wan, state string) {
	t.Helper()
	eventually(t, func() error {
		got, err := w.state(wan)
		if err == nil && got != state {
			err = fmt.Errorf("%s is %s, not %s", wan, got, state)
		}
		return err
	})
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// network is /etc/config/network with what the lab has given the devices:
// netifd clears those it takes.
func (w *router) network(t *testing.T, names map[string]string) string {
	t.Helper()
	var b strings.Builder
	for _, device := range []string{"lan0", "fibre", "lte"} {
		out, err := w.Gateway.Run(fmt.Sprintf("ip -4 -o addr show dev %s scope global | awk '{print $4}'; ip -4 route show default dev %[1]s | awk '{print $3; exit}'", device))
		must(t, err)
		f := strings.Fields(out)
		fmt.Fprintf(&b, "config interface '%s'\n\toption device '%s'\n\toption proto 'static'\n\toption ipaddr '%s'\n", names[device], device, f[0])
		if len(f) > 1 {
			fmt.Fprintf(&b, "\toption gateway '%s'\n\toption metric '%d'\n", f[1], len(b.String()))
		}
	}
	return b.String()
}

// braidUCI has a quoted type, which go-uci does not read.
const braidUCI = `
config 'globals' 'globals'
	option enabled '1'
	list lan 'lan'

config 'wan' 'fibre'
	list interface 'wan'

config 'wan' 'lte'
	list interface 'wanb'
	option kind 'cellular'
	option role 'bond'

config 'converter' 'mcp'
	list address '192.0.2.10'
`

const signatures = `'braid' @ID
	"status":{}
	"wans":{}
	"connections":{"limit":"Integer","offset":"Integer","wan":"String"}
	"explain":{"dest":"String","port":"Integer","proto":"String","src":"String"}
	"set":{"wan":"String","role":"String"}
	"probe":{"wan":"String"}
	"reload":{}
`

// TestRouter is a day in a router's life.
func TestRouter(t *testing.T) {
	life := t // what subtests start lives on
	w := newRouter(t)
	names := map[string]string{"lan0": "lan", "fibre": "wan", "lte": "wanb"}
	network := w.network(t, names)
	w.write(t, "network", network)
	w.write(t, "braid", braidUCI)
	stopUbusd := w.startUbusd(t)
	stopNetifd := w.startNetifd(t)
	_, err := w.ubus("-t", "10", "wait_for", "network.interface")
	must(t, err)
	w.start(t, filepath.Join(w.bin, "braid"), "agent", "-ubus", w.socket())
	_, err = w.ubus("-t", "10", "wait_for", "braid")
	must(t, err)

	t.Run("list", func(t *testing.T) {
		out, err := w.ubus("-v", "list", "braid")
		must(t, err)
		if diff := cmp.Diff(signatures, regexp.MustCompile("@[0-9a-f]{8}").ReplaceAllString(out, "@ID")); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
	w.await(t, "fibre", "up")
	w.await(t, "lte", "up")
	t.Run("carry", func(t *testing.T) {
		peer, err := w.FromHost(lab.Server4).Identify(t.Context())
		must(t, err)
		if got := peer.Remote.Addr().Unmap(); got != lab.Converter4 {
			t.Errorf("the server sees %v", got)
		}
	})
	t.Run("call", func(t *testing.T) {
		for _, args := range [][]string{
			{"status"}, {"wans"}, {"connections", `{"limit":5}`}, {"explain", `{"dest":"192.0.2.80","port":80}`},
			{"probe", `{"wan":"lte"}`}, {"set", `{"wan":"lte","role":"backup"}`}, {"reload"},
		} {
			out, err := w.ubus(append([]string{"call", "braid"}, args...)...)
			if err != nil {
				t.Error(err)
			}
			t.Logf("%v:\n%s", args, out)
		}
	})
	t.Run("events", func(t *testing.T) {
		listened, subscribed := w.watch(t, "listen", "braid.*"), w.watch(t, "subscribe", "braid")
		time.Sleep(time.Second) // neither says when it listens
		_, err := w.ubus("call", "network.interface.wanb", "down")
		must(t, err)
		const want = `"from":"up","to":"down"`
		for name, lineC := range map[string]<-chan string{"listen": listened, "subscribe": subscribed} {
			select {
			case line := <-lineC:
				if !strings.Contains(line, `"braid.wan"`) || !strings.Contains(line, want) {
					t.Errorf("%s: %s", name, line)
				}
				t.Logf("%s: %s", name, line)
			case <-time.After(10 * time.Second):
				t.Errorf("%s: nothing", name)
			}
		}
		w.await(t, "lte", "down")
		_, err = w.ubus("call", "network.interface.wanb", "up")
		must(t, err)
		w.await(t, "lte", "up")
	})
	t.Run("uncommitted", func(t *testing.T) {
		uci := func(args ...string) {
			t.Helper()
			if out, err := w.command(append([]string{env(t, "UCI"), "-c", uciDir}, args...)...).CombinedOutput(); err != nil {
				t.Fatalf("uci %v: %v: %s", args, err, out)
			}
		}
		reload := func() (answer report.Reload) {
			t.Helper()
			must(t, w.call(&answer, "reload"))
			return answer
		}
		uci("set", "braid.lte.role=off")
		if got := reload(); !got.OK { // what is not committed is not there
			t.Errorf("%+v", got)
		}
		w.await(t, "lte", "up")
		uci("revert", "braid")
		if got := reload(); !got.OK {
			t.Errorf("%+v", got)
		}
		w.write(t, "braid", braidUCI)
		uci("set", "braid.lte.role=off")
		uci("commit", "braid")
		if got := reload(); !got.OK {
			t.Errorf("%+v", got)
		}
		w.await(t, "lte", "off")
		w.write(t, "braid", braidUCI)
		reload()
		w.await(t, "lte", "up")
	})
	t.Run("netifd restarts", func(t *testing.T) {
		stopNetifd()
		w.await(t, "fibre", "up") // nothing is known of a change
		w.startNetifd(life)
		_, err := w.ubus("-t", "10", "wait_for", "network.interface")
		must(t, err)
		w.await(t, "fibre", "up")
		w.await(t, "lte", "up")
	})
	t.Run("renamed", func(t *testing.T) {
		names["lte"] = "mobile"
		w.write(t, "network", strings.Replace(network, "'wanb'", "'mobile'", 1))
		_, err := w.ubus("call", "network", "reload")
		must(t, err)
		w.await(t, "lte", "down")
		w.write(t, "braid", strings.Replace(braidUCI, "'wanb'", "'mobile'", 1))
		must(t, w.call(nil, "reload"))
		w.await(t, "lte", "up")
	})
	t.Run("ubusd restarts", func(t *testing.T) {
		stopUbusd()
		w.startUbusd(life)
		_, err := w.ubus("-t", "20", "wait_for", "braid")
		must(t, err)
		w.await(t, "fibre", "up")
	})
}

// watch runs a ubus that prints a line for each thing it sees.
func (w *router) watch(t *testing.T, args ...string) <-chan string {
	t.Helper()
	cmd := w.command(append([]string{env(t, "UBUS"), "-s", w.socket()}, args...)...)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lineC := make(chan string, 100)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			lineC <- s.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return lineC
}
