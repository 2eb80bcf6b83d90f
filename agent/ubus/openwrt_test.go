//go:build openwrt

// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Against OpenWrt's own programs: UBUSD and UBUS name ubusd and ubus.
package ubus

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func program(t *testing.T, name string) string {
	t.Helper()
	path := os.Getenv(name)
	if path == "" {
		t.Fatalf("%s is not set", name)
	}
	return path
}

// startUbusd is startBroker with OpenWrt's ubusd.
func startUbusd(t *testing.T, path string) (stop func()) {
	t.Helper()
	cmd := exec.Command(program(t, "UBUSD"), "-s", path, "-A", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		if cmd.ProcessState == nil {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		}
	}
	t.Cleanup(stop)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		nc, err := net.Dial("unix", path)
		if err == nil {
			nc.Close()
			return stop
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestUbusd runs the tests of the client against ubusd.
func TestUbusd(t *testing.T) {
	startServer = startUbusd
	defer func() { startServer = startBroker }()
	for name, test := range map[string]func(*testing.T){
		"Call": TestCall, "CallTimeout": TestCallTimeout, "Lookup": TestLookup, "Publish": TestPublish,
		"Events": TestEvents, "EventsLost": TestEventsLost, "ObjectEvents": TestObjectEvents, "Subscribe": TestSubscribe,
		"NotifyWithReply": TestNotifyWithReply, "HandlersBounded": TestHandlersBounded, "Load": TestLoad,
		"LargeMessages": TestLargeMessages, "Reconnect": TestReconnect,
		"RegisterDuringReconnect": TestRegisterDuringReconnect, "Cut": TestCut,
	} {
		t.Run(name, test)
	}
}

// command runs ubus with a fixed end.
func command(t *testing.T, path string, args ...string) (stdout string, status int) {
	t.Helper()
	cmd := exec.Command(program(t, "UBUS"), append([]string{"-t", "10", "-s", path}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("ubus %v did not run", args)
	}
	if errs.Len() > 0 {
		t.Logf("ubus %s: %s", strings.Join(args, " "), strings.TrimSpace(errs.String()))
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// watch runs a ubus that prints a line for each thing it sees.
func watch(t *testing.T, path string, args ...string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program(t, "UBUS"), append([]string{"-s", path}, args...)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	lineC := make(chan string, 100)
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		for s := bufio.NewScanner(out); s.Scan(); {
			lineC <- s.Text()
		}
	}()
	t.Cleanup(func() { cancel(); <-doneC; cmd.Wait() })
	return lineC
}

// TestCommand runs the ubus command against both, which must look the same.
func TestCommand(t *testing.T) {
	for name, start := range map[string]func(*testing.T, string) func(){"broker": startBroker, "ubusd": startUbusd} {
		t.Run(name, func(t *testing.T) {
			startServer = start
			defer func() { startServer = startBroker }()
			testCommand(t)
		})
	}
}

func testCommand(t *testing.T) {
	path := newServer(t)
	c := dialTest(t, path)
	watchedC := make(chan bool, 1)
	want := exampleWAN()
	object := calc("braid")
	object.Subscribed = func(on bool) { watchedC <- on }
	object.Methods = append(object.Methods, Method{
		Name: "all",
		Args: []Arg{{"s", String}, {"b", Bool}, {"l", Array}, {"t", Table}, {"n", Int64}, {"d", Double}},
		Handle: func(_ context.Context, r *Request) (any, error) {
			var args map[string]any
			if err := r.Args(&args); err != nil {
				return nil, err
			}
			return map[string]any{"args": args, "wan": want}, nil
		},
	})
	p := publish(t, c, object)
	publish(t, c, calc("another"))

	t.Run("list", func(t *testing.T) {
		out, status := command(t, path, "list")
		if out != "another\nbraid\n" || status != 0 {
			t.Errorf("status %d: %q", status, out)
		}
		if out, status := command(t, path, "list", "br*"); out != "braid\n" || status != 0 {
			t.Errorf("status %d: %q", status, out)
		}
		if out, status := command(t, path, "list", "absent"); out != "" || status != int(ErrNotFound) {
			t.Errorf("status %d: %q", status, out)
		}
	})
	t.Run("list -v", func(t *testing.T) {
		out, _ := command(t, path, "-v", "list", "braid")
		out = regexp.MustCompile("@[0-9a-f]{8}").ReplaceAllString(out, "@ID")
		want := `'braid' @ID
	"add":{"a":"Integer","b":"Integer"}
	"refuse":{}
	"fail":{}
	"unsayable":{}
	"nothing":{}
	"all":{"s":"String","b":"Boolean","l":"Array","t":"Table","n":"(unknown)","d":"(unknown)"}
`
		if diff := cmp.Diff(want, out); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
	t.Run("call", func(t *testing.T) {
		args := `{"s":"\u00e9\"","b":true,"l":[1,[],{}],"t":{"x":null},"n":-5000000000,"d":0.5}`
		out, status := command(t, path, "call", "braid", "all", args)
		if status != 0 {
			t.Fatalf("status %d", status)
		}
		var got, sent any
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		text, err := json.Marshal(map[string]any{"args": json.RawMessage(args), "wan": want})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &sent); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sent, got); diff != "" {
			t.Errorf("-sent +printed:\n%s", diff)
		}
		for _, tt := range []struct {
			args   []string
			status Status
		}{
			{[]string{"braid", "add", `{"a":"x"}`}, ErrInvalidArgument},
			{[]string{"braid", "refuse"}, ErrPermissionDenied},
			{[]string{"braid", "fail"}, ErrUnknown},
			{[]string{"braid", "absent"}, ErrMethodNotFound},
			{[]string{"braid", "nothing"}, 0},
			{[]string{"absent", "x"}, ErrNotFound},
		} {
			out, status := command(t, path, append([]string{"-S", "call"}, tt.args...)...)
			if status != int(tt.status) || out != "" {
				t.Errorf("%v: status %d, want %d; %q", tt.args, status, tt.status, out)
			}
		}
	})
	t.Run("subscribe", func(t *testing.T) {
		lineC := watch(t, path, "subscribe", "braid")
		receive(t, "the subscriber", watchedC)
		if err := p.Notify(t.Context(), "braid.wan", sum{1, 2}); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, "the notification", lineC); got != `{ "braid.wan": {"a":1,"b":2} }` {
			t.Errorf("printed %s", got)
		}
	})
	receive(t, "the subscriber's end", watchedC)
	t.Run("listen", func(t *testing.T) {
		lineC := watch(t, path, "listen", "ubus.object.*", "braid.*")
		// It says nothing when it listens, so send until it prints.
		for got := ""; !strings.HasPrefix(got, `{ "braid.x"`); {
			if err := c.Send(t.Context(), "braid.x", sum{3, 4}); err != nil {
				t.Fatal(err)
			}
			select {
			case got = <-lineC:
			case <-time.After(10 * time.Millisecond):
			}
		}
		if _, status := command(t, path, "send", "braid.y", `{"n":1}`); status != 0 {
			t.Errorf("send: status %d", status)
		}
		o := publish(t, c, calc("new"))
		o.Remove()
		for _, want := range []string{`^{ "braid.y": {"n":1} }$`, `^{ "ubus.object.add": {"id":-?\d+,"path":"new"} }$`, `^{ "ubus.object.remove": {"id":-?\d+,"path":"new"} }$`} {
			got := receive(t, want, lineC)
			for strings.HasPrefix(got, `{ "braid.x"`) {
				got = receive(t, want, lineC)
			}
			if !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("printed %s, want %s", got, want)
			}
		}
		if _, status := command(t, path, "send", "ubus.x"); status != int(ErrPermissionDenied) {
			t.Errorf("send ubus.x: status %d", status)
		}
	})
	t.Run("wait_for", func(t *testing.T) {
		if _, status := command(t, path, "wait_for", "braid"); status != 0 {
			t.Errorf("status %d", status)
		}
		statusC := make(chan int)
		go func() {
			_, status := command(t, path, "wait_for", "late", "braid")
			statusC <- status
		}()
		time.Sleep(100 * time.Millisecond) // so that it waits; right either way
		publish(t, c, calc("late"))
		if status := receive(t, "wait_for", statusC); status != 0 {
			t.Errorf("status %d", status)
		}
	})
}

// TestMonitor: the broker has no monitor, and the command survives that.
func TestMonitor(t *testing.T) {
	path := newServer(t)
	if out, status := command(t, path, "monitor"); out != "" || status != int(ErrNotFound) {
		t.Errorf("status %d: %q", status, out)
	}
	if _, status := command(t, path, "list"); status != 0 {
		t.Errorf("afterwards: status %d", status)
	}
}
