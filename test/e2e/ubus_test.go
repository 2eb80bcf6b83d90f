// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/agent/report"
	"braid/agent/ubus"
	"braid/test/lab"
	"braid/test/rig"
)

// bus connects to the agent's ubus.
func bus(t *testing.T, r *rig.Rig) *ubus.Client {
	t.Helper()
	c, err := ubus.Dial(t.Context(), r.Socket())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

type table = map[string]any

// wanOf is a WAN as the agent tells of it.
func wanOf(t *testing.T, c *ubus.Client, name string) report.WAN {
	t.Helper()
	var all report.WANs
	must(t, c.Call(t.Context(), "braid", "wans", table{}, &all))
	for _, w := range all.WANs {
		if w.Name == name {
			return w
		}
	}
	t.Fatalf("no WAN %s", name)
	return report.WAN{}
}

func TestUbusSignatures(t *testing.T) {
	r := start(t, rig.Options{})
	found, err := bus(t, r).Lookup(t.Context(), "braid")
	must(t, err)
	got := make(map[string][]ubus.Arg)
	for _, m := range found[0].Methods {
		got[m.Name] = m.Args
	}
	want := map[string][]ubus.Arg{
		"status":      nil,
		"wans":        nil,
		"connections": {{Name: "limit", Type: ubus.Int32}, {Name: "offset", Type: ubus.Int32}, {Name: "wan", Type: ubus.String}, {Name: "host", Type: ubus.String}},
		"explain":     {{Name: "dest", Type: ubus.String}, {Name: "port", Type: ubus.Int32}, {Name: "proto", Type: ubus.String}, {Name: "src", Type: ubus.String}},
		"set":         {{Name: "wan", Type: ubus.String}, {Name: "role", Type: ubus.String}, {Name: "quota_used", Type: ubus.Int64}},
		"history":     {{Name: "span", Type: ubus.Int32}},
		"events":      {{Name: "since", Type: ubus.Int32}},
		"check":       {{Name: "sections", Type: ubus.Array}},
		"try":         {{Name: "section", Type: ubus.Table}},
		"probe":       {{Name: "wan", Type: ubus.String}},
		"reload":      nil,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The members and types of every answer are what people's scripts rely on.
func TestUbusAnswers(t *testing.T) {
	r := start(t, rig.Options{})
	c := bus(t, r)
	conn, err := dial(t, r.Host(), lab.Server4, rig.Port)
	must(t, err)
	defer conn.Close()
	eventually(t, 5*time.Second, func() error {
		if len(connections(t, r)) != 1 {
			return errors.New("no connection")
		}
		return nil
	})
	remembered(t, c)
	call := func(method string, args any) table {
		t.Helper()
		var answer table
		must(t, c.Call(t.Context(), "braid", method, args, &answer))
		return answer
	}
	const wan = "{addresses[] cellular{failure:string ip_type:string lock:string model:string operator:string " +
		"registration:string roaming:bool rsrp:float64 rsrq:float64 signal:int64 sinr:float64 source:string technology:string} " +
		"device:string effective_role:string interface:string ipv4:string ipv6:bool jitter_ms:float64 kind:string " +
		"legs[{converters[{name:string rtt_ms:float64 state:string}] device:string family:string gateway:string mtu:int64 origin:string reason:string source:string state:string}] loss:float64 name:string " +
		"nat64:string quota{limit:int64 resets:int64 used:int64} reason:string role:string rtt_ms:float64 rx_bytes:int64 rx_rate:int64 since:int64 " +
		"state:string subflows:int64 tx_bytes:int64 tx_rate:int64}"
	for _, tt := range []struct {
		method string
		args   table
		want   string
	}{
		{"status", nil, "{bytes{direct:int64 rx:int64 tx:int64} connections{convert:int64 direct:int64 extended:int64 failed:int64 open:int64 tcp_fallback:int64 total:int64} " +
			"converters[{address:string ipv4:bool ipv6:bool name:string port:int64 rtt_ms:float64 since:int64 state:string}] firewall:string " +
			"kernel{congestion:string mptcp:bool release:string tfo:bool tproxy:bool} last_event:int64 problems[] state:string uptime:int64 version:string wans[" + wan + "]}"},
		{"wans", nil, "{wans[" + wan + "]}"},
		{"connections", nil, "{connections[{age:int64 converter:string dst:string id:int64 mptcp:bool path:string rx:int64 src:string " +
			"subflows[{backup:bool local:string remote:string rtt_ms:float64 rx:int64 tx:int64 wan:string}] tx:int64}] total:int64}"},
		{"explain", table{"dest": lab.Server4.String()}, "{address:string path:string reason:string rule:string seen{} subflows[{family:string peer:string remote:string wan:string}]}"},
		{"history", nil, "{step:int64 wans[{name:string rtt[float64] rx[int64] tx[int64]}]}"},
		{"events", nil, "{events[{age:int64 from:string name:string number:int64 reason:string to:string type:string}] next:int64}"},
		{"check", nil, "{ok:bool problems[]}"},
		{"try", table{"section": converterSection}, "{reason:string rtt_ms:float64 state:string}"},
		{"set", table{"wan": "lte", "role": "bond"}, "{}"},
		{"probe", table{"wan": "lte"}, wan},
		{"reload", nil, "{ok:bool problems[]}"},
	} {
		if got := shape(call(tt.method, tt.args)); got != strings.ReplaceAll(tt.want, "addresses[]", "addresses[string]") {
			t.Errorf("%s answers\n%s\nwant\n%s", tt.method, got, tt.want)
		}
	}
}

// shape writes the members of a value, and their types.
func shape(v any) string {
	switch v := v.(type) {
	case table:
		var names []string
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for i, name := range names {
			s := shape(v[name])
			if s[0] != '{' && s[0] != '[' {
				s = ":" + s
			}
			names[i] += s
		}
		return "{" + strings.Join(names, " ") + "}"
	case []any:
		if len(v) == 0 {
			return "[]"
		}
		return "[" + shape(v[0]) + "]"
	}
	return fmt.Sprintf("%T", v)
}

func TestUbusRefusals(t *testing.T) {
	r := start(t, rig.Options{})
	c := bus(t, r)
	for _, tt := range []struct {
		method string
		args   table
		want   ubus.Status
	}{
		{"connections", table{"limit": 0}, ubus.ErrInvalidArgument},
		{"connections", table{"limit": 501}, ubus.ErrInvalidArgument},
		{"connections", table{"limit": "ten"}, ubus.ErrInvalidArgument},
		{"connections", table{"offset": -1}, ubus.ErrInvalidArgument},
		{"connections", table{"wan": "none"}, ubus.ErrNotFound},
		{"explain", table{}, ubus.ErrInvalidArgument},
		{"explain", table{"dest": "server.invalid"}, ubus.ErrNotFound},
		{"explain", table{"dest": "not a name"}, ubus.ErrInvalidArgument},
		{"explain", table{"dest": "192.0.2.80", "port": 65536}, ubus.ErrInvalidArgument},
		{"explain", table{"dest": "192.0.2.80", "proto": "sctp"}, ubus.ErrInvalidArgument},
		{"explain", table{"dest": "192.0.2.80", "src": "host"}, ubus.ErrInvalidArgument},
		{"set", table{"wan": "lte"}, ubus.ErrInvalidArgument},
		{"set", table{"wan": "lte", "role": "best"}, ubus.ErrInvalidArgument},
		{"set", table{"wan": "none", "role": "off"}, ubus.ErrNotFound},
		{"set", table{"wan": "none", "quota_used": 1}, ubus.ErrNotFound},
		{"set", table{"wan": "lte", "quota_used": 1}, ubus.ErrInvalidArgument},
		{"set", table{"wan": "lte", "quota_used": -1}, ubus.ErrInvalidArgument},
		{"history", table{"span": 0}, ubus.ErrInvalidArgument},
		{"history", table{"span": 86401}, ubus.ErrInvalidArgument},
		{"check", table{"sections": []table{{"enabled": "1"}}}, ubus.ErrInvalidArgument},
		{"try", table{}, ubus.ErrInvalidArgument},
		{"try", table{"section": table{".type": "rule", ".name": "r", ".anonymous": false}}, ubus.ErrInvalidArgument},
		{"probe", table{"wan": "none"}, ubus.ErrNotFound},
		{"probe", table{}, ubus.ErrNotFound},
		{"halt", table{}, ubus.ErrMethodNotFound},
	} {
		if err := c.Call(t.Context(), "braid", tt.method, tt.args, nil); !errors.Is(err, tt.want) {
			t.Errorf("%s %v: %v, want %v", tt.method, tt.args, err, tt.want)
		}
	}
}

// -json is what ubus answers.
func TestCommandLineJSON(t *testing.T) {
	r := start(t, rig.Options{})
	c := bus(t, r)
	for _, tt := range []struct {
		args   []string
		method string
		send   table
	}{
		{[]string{"explain", lab.Server4.String()}, "explain", table{"dest": lab.Server4.String()}},
		{[]string{"connections"}, "connections", nil},
		{[]string{"wans"}, "wans", nil},
		{[]string{"status"}, "status", nil},
	} {
		ask := func() (sent any) {
			var answer any
			must(t, c.Call(t.Context(), "braid", tt.method, tt.send, &answer))
			raw, err := json.Marshal(answer)
			must(t, err)
			must(t, json.Unmarshal(raw, &sent))
			return sent
		}
		var sent, printed any
		for same := false; !same; same = tt.method != "explain" || cmp.Equal(sent, ask()) { // lines are just being measured
			sent = ask()
			out, err := r.Braid(append(tt.args, "-json")...)
			must(t, err)
			must(t, json.Unmarshal(out, &printed))
		}
		if got, want := shape(printed), shape(sent); got != want {
			t.Errorf("%v prints\n%s\nubus answers\n%s", tt.args, got, want)
		}
		if tt.method == "explain" && !cmp.Equal(sent, printed) {
			t.Errorf("%v: %s", tt.args, cmp.Diff(sent, printed))
		}
	}
}

// A role that is set holds until the file changes, in the kernel too.
func TestUbusSet(t *testing.T) {
	r := start(t, rig.Options{})
	c := bus(t, r)
	roles := func() string {
		return fmt.Sprintf("%s %s", wanOf(t, c, "fibre").EffectiveRole, wanOf(t, c, "lte").EffectiveRole)
	}
	set := func(wan, role string) {
		t.Helper()
		must(t, c.Call(t.Context(), "braid", "set", table{"wan": wan, "role": role}, nil))
	}
	set("lte", "backup")
	for _, why := range []string{"set", "a reload of the same file"} {
		if got := roles(); got != "primary backup" {
			t.Errorf("after %s: %s", why, got)
		}
		if out := sh(t, r.Gateway, "ip mptcp endpoint show"); strings.Contains(out, "dev lte") {
			t.Errorf("after %s an endpoint for a backup that is not needed:\n%s", why, out)
		}
		must(t, c.Call(t.Context(), "braid", "reload", table{}, nil))
	}
	set("lte", "primary")
	if got := roles(); got != "bond primary" {
		t.Error(got)
	}
	set("fibre", "off")
	if w := wanOf(t, c, "fibre"); w.State != "off" || w.Role != "primary" {
		t.Errorf("%+v", w)
	}
	if out := sh(t, r.Gateway, "ip mptcp endpoint show"); strings.Contains(out, "dev fibre") {
		t.Errorf("an endpoint on a WAN that is off:\n%s", out)
	}
	// A configuration that is not taken changes nothing.
	must(t, r.WriteUCI("config globals 'globals'\n\toption enabled 'perhaps'\n"))
	var answer report.Reload
	must(t, c.Call(t.Context(), "braid", "reload", table{}, &answer))
	if answer.OK || len(answer.Problems) == 0 || roles() != "off primary" {
		t.Errorf("%+v, %s", answer, roles())
	}
	must(t, r.WriteUCI(rig.DefaultUCI))
	must(t, c.Call(t.Context(), "braid", "reload", table{}, &answer))
	if !answer.OK || len(answer.Problems) != 0 {
		t.Errorf("%+v", answer)
	}
	eventually(t, 10*time.Second, func() error { // it was off, and has to prove itself
		if got := roles(); got != "primary bond" {
			return errors.New(got)
		}
		return nil
	})
}

// probe does not wait for the next probe that is due, and sees what is not
// known yet.
func TestUbusProbe(t *testing.T) {
	r := start(t, rig.Options{})
	c := bus(t, r)
	probe := func() (w report.WAN) {
		t.Helper()
		must(t, c.Call(t.Context(), "braid", "probe", table{"wan": "lte"}, &w))
		return w
	}
	if w := probe(); w.Name != "lte" || w.State != "up" || w.RTT <= 0 {
		t.Errorf("%+v", w)
	}
	before := wanOf(t, c, "lte").Loss
	r.Link("lte").Blackhole(true)
	if w := probe(); w.Loss <= before {
		t.Errorf("loss %v, before %v", w.Loss, before)
	}
}

func TestUbusEvents(t *testing.T) {
	r := start(t, rig.Options{})
	c := bus(t, r)
	eventC := make(chan string, 100)
	note := func(how string) func(ubus.Event) {
		return func(e ubus.Event) {
			var v table
			if err := e.Data.Unmarshal(&v); err != nil {
				t.Error(err)
			}
			delete(v, "reason")
			raw, _ := json.Marshal(v)
			eventC <- fmt.Sprintf("%s %s %s", how, e.Name, raw)
		}
	}
	_, err := c.Listen("braid.*", note("event"))
	must(t, err)
	activeC := make(chan bool, 1)
	_, err = c.Subscribe(ubus.Subscription{Path: "braid", Notify: note("notification"), Active: func(on bool) { activeC <- on }})
	must(t, err)
	<-activeC
	expect := func(event string) {
		t.Helper()
		missing := map[string]bool{"event " + event: true, "notification " + event: true}
		for timeout := time.After(20 * time.Second); len(missing) > 0; {
			select {
			case got := <-eventC:
				delete(missing, got)
			case <-timeout:
				t.Fatalf("missing %v", missing)
			}
		}
	}
	must(t, r.WAN("lte").SetDown())
	expect(`braid.wan {"from":"up","to":"down","wan":"lte"}`)
	must(t, r.WriteUCI("config wan 'x'\n"))
	must(t, c.Call(t.Context(), "braid", "reload", table{}, nil))
	expect(`braid.config {"ok":false,"problems":[{"message":"neither interface nor device is set","option":"","section":"x","warning":false}]}`)
	r.MCP.Kill()
	conn, err := dial(t, r.Host(), lab.Server4, rig.Port) // which finds out
	must(t, err)
	conn.Close()
	expect(`braid.converter {"from":"up","name":"mcp","to":"down"}`)
}

// hold opens n connections and keeps them open. That a connection is through
// is seen by the byte that the server sends.
func hold(t *testing.T, r *rig.Rig, n int) {
	t.Helper()
	const port = 9090
	l := listen(t, r.Server, port)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte{1})
			t.Cleanup(func() { c.Close() })
		}
	}()
	var opening sync.WaitGroup
	slots := make(chan struct{}, 16)
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		for _, c := range open {
			c.Close()
		}
	})
	for range n {
		slots <- struct{}{}
		opening.Go(func() {
			defer func() { <-slots }()
			d := net.Dialer{Timeout: 10 * time.Second}
			d.SetMultipathTCP(false)
			c, err := r.Host().Dial(t.Context(), d, "tcp", fmt.Sprintf("%v:%d", lab.Server4, port))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
}

// While 2,000 connections are open and a WAN comes and goes, every method
// answers right and soon.
func TestUbusUnderLoad(t *testing.T) {
	const (
		open = 2000
		soon = 50 * time.Millisecond
	)
	r := start(t, rig.Options{})
	hold(t, r, open)
	if t.Failed() {
		return
	}
	c := bus(t, r)
	eventually(t, 5*time.Second, func() error { // the count may be a second old
		if n := wanOf(t, c, "fibre").Subflows; n < open {
			return fmt.Errorf("%d subflows", n)
		}
		return nil
	})
	ctx, stop := context.WithTimeout(t.Context(), 15*time.Second)
	defer stop()
	var flapping sync.WaitGroup
	defer flapping.Wait()
	flapping.Go(func() {
		for down := true; ctx.Err() == nil; down = !down {
			change := r.WAN("lte").SetUp
			if down {
				change = r.WAN("lte").SetDown
			}
			if err := change(); err != nil {
				t.Error(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	})
	took := make(map[string][]time.Duration)
	states := make(map[string]bool)
	call := func(what, method string, args, reply any) {
		t.Helper()
		began := time.Now()
		if err := c.Call(t.Context(), "braid", method, args, reply); err != nil {
			t.Error(err)
		}
		took[what] = append(took[what], time.Since(began))
	}
	for ctx.Err() == nil {
		var s report.Status
		call("status", "status", table{}, &s)
		if s.Connections.Open != open {
			t.Errorf("status: %d connections", s.Connections.Open)
		}
		var w report.WANs
		call("wans", "wans", table{}, &w)
		if len(w.WANs) != 2 || w.WANs[0].Subflows < open {
			t.Errorf("wans: %+v", w.WANs)
		}
		states[w.WANs[1].State] = true
		seen := make(map[uint64]bool)
		for offset := 0; offset < open; offset += 500 {
			var cs report.Connections
			call("connections", "connections", table{"limit": 500, "offset": offset}, &cs)
			if len(cs.Connections) != 500 || cs.Total != open {
				t.Errorf("connections at %d: %d of %d", offset, len(cs.Connections), cs.Total)
			}
			for _, conn := range cs.Connections {
				seen[conn.ID] = true
			}
		}
		if len(seen) != open {
			t.Errorf("%d different connections", len(seen))
		}
		var cs report.Connections
		call("connections of a WAN", "connections", table{"wan": "fibre"}, &cs)
		if len(cs.Connections) != 100 || cs.Total != open {
			t.Errorf("connections of a WAN: %d of %d", len(cs.Connections), cs.Total)
		}
		var e report.Explanation
		call("explain", "explain", table{"dest": lab.Server4.String()}, &e)
		if e.Path == "" {
			t.Errorf("explain: %+v", e)
		}
		time.Sleep(50 * time.Millisecond)
	}
	for what, all := range took {
		slices.Sort(all)
		median, slow := all[len(all)/2], all[len(all)*9/10]
		t.Logf("%s: %d calls, median %v, 90 %% within %v, longest %v", what, len(all), median, slow, all[len(all)-1])
		if slow > soon {
			t.Errorf("%s takes %v", what, slow)
		}
	}
	if !states["up"] || !states["down"] {
		t.Errorf("the WAN did not flap: %v", states)
	}
}

// braid watch goes on when the agent restarts, and ends when it is told to.
func TestWatchSurvives(t *testing.T) {
	r := start(t, rig.Options{})
	var w transcript
	cmd := exec.Command(filepath.Join(bin, "braid"), "watch", "-ubus", r.Socket())
	cmd.Stdout, cmd.Stderr = &w, &w
	must(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	w.await(t, "fibre up primary")
	must(t, r.Agent.Stop())
	w.await(t, "the agent")
	must(t, r.StartAgent())
	w.reset()
	w.await(t, "fibre up primary")
	must(t, r.WAN("lte").SetDown())
	w.await(t, "lte: up -> down")
	must(t, cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); err != nil {
		t.Errorf("braid watch: %v", err)
	}
}

// transcript collects what a program prints.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *transcript) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Reset()
}

func (s *transcript) await(t *testing.T, text string) {
	t.Helper()
	eventually(t, 15*time.Second, func() error {
		if out := s.String(); !strings.Contains(out, text) {
			return fmt.Errorf("no %q in\n%s", text, out)
		}
		return nil
	})
}
