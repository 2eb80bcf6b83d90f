// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package luci looks at the LuCI page as users do: a real browser, the page as
// it is shipped, and behind it an agent that carries connections in the
// laboratory. LUCI_SRC names a checkout of LuCI whose own scripts and themes
// the page then runs in; without it test/luci/harness stands for them.
package luci

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"braid/agent/report"
	"braid/agent/ubus"
	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
)

// bin is the directory of what is tested.
var bin string

func TestMain(m *testing.M) {
	if src := os.Getenv("LUCI_SRC"); src != "" {
		fmt.Println("the page runs in LuCI itself, of", src)
	} else {
		fmt.Println("the page runs in test/luci/harness; LUCI_SRC=DIR has it run in LuCI itself")
	}
	os.Exit(build(m))
}

func build(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("", "braid-luci-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(bin)
	cmd := exec.Command("go", "build", "-o", bin, "braid/agent/cmd/braid", "braid/mcp/cmd/braid-mcp")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %v\n%s", cmd, err, out)
		return 1
	}
	return m.Run()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// house is braid at work, as a router with netifd would have it.
const house = `
config globals 'globals'
	option enabled '1'
	list lan 'lan'

config wan 'fibre'
	list interface 'wan'

config wan 'lte'
	list interface 'wwan'
	option kind 'cellular'
	option role 'bond'
	option quota '50'

config converter 'mcp'
	list address '192.0.2.10'

config rule 'games'
	option proto 'udp'
	list dest_port '27000-27100'
	option path 'pass'
	option wan 'fibre'
`

// start puts up the laboratory, netifd's answer and a router's web server.
func start(t *testing.T, uci string) (*rig.Rig, *server) {
	t.Helper()
	fast := link.Spec{Rate: 50e6, Delay: 10 * time.Millisecond}
	slow := link.Spec{Rate: 20e6, Delay: 30 * time.Millisecond}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := rig.New(ctx, rig.Options{Bin: bin, Lab: lab.Options{Accesses: []lab.Access{lab.Fibre(fast, fast), lab.LTE(slow, slow)}},
		UCI: uci, Idle: true})
	must(t, err)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() && r.Agent != nil {
			t.Log(r.Agent.Log())
		}
	})
	must(t, r.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"))
	must(t, os.WriteFile(filepath.Join(r.UCI, "network"), []byte(networkUCI), 0o644))
	must(t, os.WriteFile(filepath.Join(r.UCI, "firewall"), []byte(firewallUCI), 0o644))
	must(t, os.WriteFile(filepath.Join(r.UCI, "luci"), []byte("config core 'main'\n"), 0o644))
	client := ubus.NewClient(r.Socket()) // connects when the agent serves the socket
	_, err = client.Publish(ubus.Object{Path: "network.interface", Methods: []ubus.Method{{Name: "dump",
		Handle: func(context.Context, *ubus.Request) (any, error) { return table{"interface": interfaces}, nil }}}})
	must(t, err)
	netifd, stop := context.WithCancel(ctx)
	running := make(chan error, 1)
	go func() { running <- client.Run(netifd) }()
	t.Cleanup(func() { stop(); <-running })
	must(t, r.StartAgent())
	return r, newServer(t, r.Socket(), r.UCI)
}

const networkUCI = `
config interface 'lan'
	option device 'lan0'
	option proto 'static'

config interface 'wan'
	option device 'fibre'
	option proto 'static'

config interface 'wwan'
	option proto 'modemmanager'
	option metric '20'
`

const firewallUCI = `
config zone
	option name 'lan'
	list network 'lan'

config zone
	option name 'wan'
	list network 'wan'
	list network 'wwan'
`

// interfaces is what netifd would dump.
var interfaces = []any{
	table{"interface": "loopback", "up": true, "l3_device": "lo", "proto": "static"},
	table{"interface": "lan", "up": true, "l3_device": "lan0", "proto": "static"},
	table{"interface": "wan", "up": true, "l3_device": "fibre", "proto": "static"},
	table{"interface": "wan6", "up": true, "l3_device": "fibre", "proto": "static"},
	table{"interface": "wwan", "up": true, "l3_device": "lte", "proto": "modemmanager"},
}

// load has the LAN download for as long as the test runs.
func load(t *testing.T, r *rig.Rig, n int) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, n)
	t.Cleanup(func() {
		cancel()
		for range n {
			<-ended
		}
	})
	for range n {
		go func() {
			defer func() { ended <- struct{}{} }()
			r.FromHost(lab.Server4).Do(ctx, traffic.Download, traffic.Request{Bytes: traffic.Endless, For: time.Hour})
		}()
	}
}

// eventually waits until the agent's status is as it should be.
func eventually(t *testing.T, r *rig.Rig, check func(report.Status) error) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		s, err := r.Status()
		if err == nil {
			err = check(s)
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
