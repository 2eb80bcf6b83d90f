// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package rig puts braid to work in a lab.World: the agent on its gateway, the
// converter on its converter, both as the processes that users run.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/traffic"
)

// Port is where the test server listens.
const Port = 8080

// Rig is a world with braid in it.
type Rig struct {
	*lab.World
	Agent, MCP *Process
	UCI        string // directory of the configuration

	ctx context.Context
	bin string
	dir string
	bus bool // there is one without the agent's
}

// Options say what to put up.
type Options struct {
	Lab  lab.Options
	Bin  string   // directory of braid and braid-mcp
	UCI  string   // text of /etc/config/braid; empty: DefaultUCI
	MCP  []string // arguments of "braid-mcp serve"; nil: everybody is a client
	Idle bool     // start neither agent nor converter
}

// DefaultUCI bonds the two WANs of the default lab.
const DefaultUCI = `
config globals 'globals'
	option enabled '1'
	option log_level 'debug'
	list lan 'lan0'

config wan 'fibre'
	option device 'fibre'
	option role 'primary'

config wan 'lte'
	option device 'lte'
	option kind 'cellular'
	option role 'bond'

config converter 'mcp'
	list address '192.0.2.10'
	option port '5124'
`

// New builds the world and starts converter, agent and a test server that
// speaks plain TCP. It returns once the agent carries connections.
func New(ctx context.Context, o Options) (r *Rig, err error) {
	w, err := lab.New(ctx, o.Lab)
	if err != nil {
		return nil, err
	}
	r = &Rig{World: w, ctx: ctx, bin: o.Bin}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.dir, err = os.MkdirTemp("", "braid-rig-"); err != nil {
		return r, err
	}
	r.UCI = filepath.Join(r.dir, "config")
	for _, dir := range []string{r.UCI, filepath.Join(r.dir, "run")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return r, err
		}
	}
	if o.UCI == "" {
		o.UCI = DefaultUCI
	}
	if err := r.WriteUCI(o.UCI); err != nil {
		return r, err
	}
	if _, err := r.Serve(r.Server, false, Port); err != nil {
		return r, err
	}
	if o.Idle {
		return r, nil
	}
	if o.MCP == nil {
		o.MCP = []string{"-client", "0.0.0.0/0", "-client", "::/0", "-log", "debug"}
	}
	if err := r.StartMCP(o.MCP...); err != nil {
		return r, err
	}
	return r, r.StartAgent()
}

// Close ends everything.
func (r *Rig) Close() error {
	var errs []error
	for _, p := range []*Process{r.Agent, r.MCP} {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	if r.dir != "" {
		errs = append(errs, os.RemoveAll(r.dir))
	}
	return errors.Join(append(errs, r.World.Close())...)
}

// WriteUCI replaces the configuration's file.
func (r *Rig) WriteUCI(text string) error {
	return os.WriteFile(filepath.Join(r.UCI, "braid"), []byte(text), 0o644)
}

// Socket is that of the agent's ubus.
func (r *Rig) Socket() string { return filepath.Join(r.dir, "ubus.sock") }

// StartMCP starts the converter and waits until it listens.
func (r *Rig) StartMCP(args ...string) (err error) {
	r.MCP, err = r.StartMCPAt(r.Converter, args...)
	return err
}

// StartMCPAt is StartMCP on any node.
func (r *Rig) StartMCPAt(n *lab.Node, args ...string) (*Process, error) {
	p, err := r.Launch(n, filepath.Join(r.bin, "braid-mcp"), append([]string{"serve"}, args...)...)
	if err != nil {
		return nil, err
	}
	return p, r.Await(p, func() error {
		c, err := n.Dial(r.ctx, net.Dialer{}, "tcp", "127.0.0.1:5124")
		if err == nil {
			c.Close()
		}
		return err
	})
}

// StartAgent starts the agent and waits until it intercepts.
func (r *Rig) StartAgent() (err error) {
	args := []string{"agent", "-uci", r.UCI, "-ubus", r.Socket()}
	if !r.bus {
		args = append(args, "-standalone")
	}
	r.Agent, err = r.Launch(r.Gateway, filepath.Join(r.bin, "braid"), args...)
	if err != nil {
		return err
	}
	return r.Await(r.Agent, func() error {
		s, err := r.Status()
		if err == nil && s.Firewall == "" && s.State != report.StateDisabled {
			err = fmt.Errorf("the agent does not intercept: %+v", s)
		}
		return err
	})
}

// Status asks the agent as users do.
func (r *Rig) Status() (s report.Status, err error) {
	out, err := r.Braid("status", "-json")
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	return s, err
}

// Braid runs a command of braid's and returns what it printed.
func (r *Rig) Braid(args ...string) ([]byte, error) {
	var errs bytes.Buffer
	cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "braid"), append(args, "-ubus", r.Socket())...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("braid %v: %w: %s", args, err, errs.String())
	}
	return out, err
}

// Serve starts a test server on a node.
func (r *Rig) Serve(n *lab.Node, mptcp bool, port uint16) (*traffic.Server, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(mptcp)
	l, err := n.Listen(r.ctx, lc, "tcp", ":"+strconv.Itoa(int(port)))
	if err != nil {
		return nil, err
	}
	s := traffic.Serve(l)
	context.AfterFunc(r.ctx, func() { s.Close() })
	return s, nil
}

// FromHost dials from the LAN host with plain TCP.
func (r *Rig) FromHost(server netip.Addr) traffic.Dial {
	return r.From(r.Host(), server, false)
}

// From dials a test server from a node.
func (r *Rig) From(n *lab.Node, server netip.Addr, mptcp bool) traffic.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		d.SetMultipathTCP(mptcp)
		return n.Dial(ctx, d, "tcp", netip.AddrPortFrom(server, Port).String())
	}
}

// Launch runs a program with a /var/run of the rig's own: what the agent
// remembers there is of one network namespace, and goes with the rig.
func (r *Rig) Launch(n *lab.Node, program string, args ...string) (*Process, error) {
	p := &Process{name: filepath.Base(program), doneC: make(chan struct{})}
	p.cmd = n.Command(r.ctx, "sh", append([]string{"-ec", `mount --bind "$0" /var/run; exec "$@"`,
		filepath.Join(r.dir, "run"), program}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.doneC)
	}()
	return p, nil
}

// Await repeats a check of a program that starts until it succeeds, for at most
// 10 s.
func (r *Rig) Await(p *Process, check func() error) error {
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-p.doneC:
			return fmt.Errorf("%s ended: %v\n%s", p.name, p.err, p.Log())
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w\n%s", p.name, err, p.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Process is a program of braid's that runs.
type Process struct {
	name  string
	cmd   *exec.Cmd
	log   buffer
	doneC chan struct{}
	err   error // after doneC
}

// Pid is the program's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Log is what it has written.
func (p *Process) Log() string { return p.log.String() }

// Signal sends it a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop ends it the way an init system does, but does not wait for open
// connections to end, and tells how it ended.
func (p *Process) Stop() error {
	select {
	case <-p.doneC:
		return nil
	default:
	}
	const tries = 30
	for range tries {
		if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		err := p.Wait(500 * time.Millisecond)
		if !errors.Is(err, errRuns) {
			return err
		}
	}
	p.Kill()
	return fmt.Errorf("%s did not stop\n%s", p.name, p.Log())
}

// Wait waits for it to end by itself, and tells how it ended.
func (p *Process) Wait(within time.Duration) error {
	select {
	case <-p.doneC:
	case <-time.After(within):
		return fmt.Errorf("%s: %w after %v\n%s", p.name, errRuns, within, p.Log())
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p.name, p.err, p.Log())
	}
	return nil
}

var errRuns = errors.New("still runs")

// Kill ends it without warning.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.doneC
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
