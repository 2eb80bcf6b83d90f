// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/traffic"
	"braid/transport/mptcp"
)

// socket is that of the agent's ubus.
const socket = "/tmp/ubus.sock"

// limit gives a line a rate, in bit/s, in both directions. The kernel can do
// it at less expense than the laboratory, and this machine is slow.
func (g *guest) limit(wan string, rate uint64) error {
	shape := func(n *lab.Node, device string) error {
		return n.Do(func() error {
			l, err := netlink.LinkByName(device)
			if err != nil {
				return err
			}
			const burst, queue = 16_000, 32_000 // bytes
			return netlink.QdiscAdd(&netlink.Tbf{
				QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
				Rate:       rate / 8, Buffer: netlink.Xmittime(rate/8, burst), Limit: queue,
			})
		})
	}
	return errors.Join(shape(g.world.Gateway, wan), shape(g.world.WAN(wan).Router, "gw"))
}

// braid runs a command of braid's.
func (g *guest) braid(args ...string) (string, error) {
	var errs strings.Builder
	cmd := exec.CommandContext(g.ctx, "/usr/sbin/braid", args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("braid %v: %w: %s%s", args, err, out, &errs)
	}
	return string(out), err
}

// ask has the command line ask the agent.
func (g *guest) ask(answer any, args ...string) error {
	out, err := g.braid(append(args, "-json", "-ubus", socket)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), answer)
}

// carried is the one connection there is, if it has a subflow over each of
// these WANs and over no other, and each has brought something. One that has
// lost its WAN does not count.
func (g *guest) carried(wans ...string) (string, error) {
	var cs report.Connections
	if err := g.ask(&cs, "connections"); err != nil {
		return "", err
	}
	if len(cs.Connections) != 1 {
		return "", fmt.Errorf("connections %+v", cs.Connections)
	}
	const some = 50_000
	brought := make(map[string]uint64)
	for _, f := range cs.Connections[0].Subflows {
		if f.WAN != "" {
			brought[f.WAN] += f.RX
		}
	}
	for _, name := range wans {
		if brought[name] < some {
			return "", fmt.Errorf("%s has brought %d bytes: %+v", name, brought[name], cs.Connections[0])
		}
	}
	if len(brought) != len(wans) {
		return "", fmt.Errorf("not only %v: %+v", wans, cs.Connections[0])
	}
	return fmt.Sprintf("%v bytes", brought), nil
}

func (g *guest) eventually(within time.Duration, check func() error) error {
	for end := time.Now().Add(within); ; time.Sleep(200 * time.Millisecond) {
		err := check()
		if err == nil {
			return nil
		}
		if p := g.ended(); p != nil {
			return fmt.Errorf("%s has ended: %w", p.cmd, p.err)
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %v: %w", within, err)
		}
	}
}

// startDownload begins one that goes on until it is told to end.
func (g *guest) startDownload() error {
	var received atomic.Int64
	g.received = received.Load
	g.downloadDoneC = make(chan error, 1)
	dialedC := make(chan error, 1)
	go func() {
		_, err := traffic.Dial(func(ctx context.Context) (c net.Conn, err error) {
			g.download, err = g.dial()(ctx)
			dialedC <- err
			return g.download, err
		}).Do(g.ctx, traffic.Download, traffic.Request{
			Bytes: traffic.Endless, For: time.Hour, Interval: 100 * time.Millisecond,
			Live: func(i traffic.Interval) { received.Add(i.Bytes) },
		})
		g.downloadDoneC <- err
	}()
	return <-dialedC
}

// endDownload tells whether every byte was right.
func (g *guest) endDownload() error {
	g.download.SetReadDeadline(time.Unix(1, 0)) // which to the transfer is the end of For
	return <-g.downloadDoneC
}

// kernel describes what the agent changes on its gateway.
func (g *guest) kernel() (string, error) {
	var s strings.Builder
	tables, err := g.world.Gateway.Command(g.ctx, "nft", "list", "tables").Output()
	if err != nil {
		return "", fmt.Errorf("listing nft tables: %w", err)
	}
	fmt.Fprintf(&s, "tables %q", tables)
	err = g.world.Gateway.Do(func() error {
		limits, err := mptcp.GetLimits()
		if err != nil {
			return err
		}
		endpoints, err := mptcp.Endpoints()
		if err != nil {
			return err
		}
		rules, err := netlink.RuleList(unix.AF_UNSPEC)
		if err != nil {
			return err
		}
		fmt.Fprintf(&s, " limits %+v endpoints %+v rules %v", limits, endpoints, rules)
		for _, name := range []string{"mptcp/enabled", "ipv4/conf/fibre/rp_filter", "ipv4/conf/lte/rp_filter"} {
			value, err := os.ReadFile("/proc/sys/net/" + name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&s, " %s %s", name, bytes.TrimSpace(value))
		}
		return nil
	})
	return s.String(), err
}

// process is a program that runs.
type process struct {
	cmd   *exec.Cmd
	log   *os.File
	doneC chan struct{}
	err   error // after doneC
}

func (g *guest) launch(n *lab.Node, args ...string) (*process, error) {
	log, err := os.CreateTemp("", "log")
	if err != nil {
		return nil, err
	}
	p := &process{cmd: n.Command(g.ctx, args[0], args[1:]...), log: log, doneC: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.doneC)
	}()
	return p, nil
}

// stop ends it the way an init system does.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.doneC:
		return p.err
	case <-time.After(40 * time.Second):
		return errors.New("it does not stop")
	}
}

// ended is a program that does not run any more, or nil.
func (g *guest) ended() *process {
	for _, p := range []*process{g.agent, g.converter} {
		if p == nil {
			continue
		}
		select {
		case <-p.doneC:
			return p
		default:
		}
	}
	return nil
}

// logs are what the programs wrote, and what the kernel counted of MPTCP and
// TCP Fast Open.
func (g *guest) logs() string {
	var s strings.Builder
	for _, p := range []*process{g.agent, g.converter} {
		if p != nil {
			text, err := os.ReadFile(p.log.Name())
			fmt.Fprintf(&s, "-- %s\n%s%v\n", p.cmd, text, err)
		}
	}
	if g.world == nil {
		return s.String()
	}
	for _, n := range []*lab.Node{g.world.Gateway, g.world.Converter} {
		fmt.Fprintf(&s, "-- %s counts", n.Name)
		err := n.Do(func() error {
			text, err := os.ReadFile("/proc/thread-self/net/netstat")
			s.WriteString(counters(string(text)))
			return err
		})
		fmt.Fprintf(&s, " %v\n", err)
	}
	return s.String()
}

// counters picks those that are not 0 from pairs of lines of names and values.
func counters(text string) string {
	var s strings.Builder
	lines := strings.Split(text, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		values := strings.Fields(lines[i+1])
		for j, name := range strings.Fields(lines[i]) {
			if j < len(values) && values[j] != "0" && (strings.HasPrefix(name, "MP") || strings.Contains(name, "FastOpen")) {
				fmt.Fprintf(&s, " %s=%s", name, values[j])
			}
		}
	}
	return s.String()
}
