// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/tcpmem"
	"braid/test/traffic"
)

// The peer is the fastest of the programs that do something alike: sing-box, a
// transparent proxy on the gateway that asks one on a server, over MPTCP.
const (
	peerModule  = "github.com/sagernet/sing-box/cmd/sing-box"
	peerVersion = "v1.14.1"
)

const peerGateway = `{"log": {"level": "error"},
	"inbounds": [{"type": "tproxy", "listen": "127.0.0.1", "listen_port": 7893, "network": "tcp"}],
	"outbounds": [{"type": "socks", "server": "%v", "server_port": %d, "tcp_multi_path": true}]}`

const peerConverter = `{"log": {"level": "error"},
	"inbounds": [{"type": "socks", "listen": "::", "listen_port": %d, "tcp_multi_path": true}],
	"outbounds": [{"type": "direct"}]}`

const peerPort = 1080

// peerRoutes has the LAN's TCP taken the way sing-box's manual tells.
const peerRoutes = `
	ip rule add fwmark 1 lookup 100
	ip route add local default dev lo table 100
	nft -f - <<.
	table inet peer {
		chain prerouting {
			type filter hook prerouting priority mangle
			iifname lan0 meta l4proto tcp socket transparent 1 meta mark set 1 accept
			iifname lan0 meta l4proto tcp ip daddr != 192.168.1.1 tproxy ip to 127.0.0.1:7893 meta mark set 1
		}
	}
.
`

// peerProgram is the peer, built where the user's caches are.
func peerProgram(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "braid-bench", peerVersion)
	program := filepath.Join(dir, "sing-box")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	fmt.Printf("building %s %s in %s, some minutes\n", peerModule, peerVersion, dir)
	cmd := exec.CommandContext(ctx, "go", "install", "-trimpath", "-ldflags", "-s -w", peerModule+"@"+peerVersion)
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building it: %w: %s", err, lastLine(out))
	}
	return program, nil
}

// contender is a world with one of the two programs that are compared.
type contender struct {
	*rig.Rig
	near, far *rig.Process // on the gateway and on the converter
}

// contenders are the peer and braid, in that order, over the same lines.
func (b *bench) contenders(ctx context.Context, program string, o lab.Options) (both [2]contender, err error) {
	ctx = context.WithoutCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, closeBoth(both))
		}
	}()
	if both[0], err = b.withPeer(ctx, program, o); err != nil {
		return both, err
	}
	r, err := b.carrying(ctx, o)
	if err != nil {
		return both, err
	}
	both[1] = contender{r, r.Agent, r.MCP}
	return both, nil
}

func closeBoth(both [2]contender) error {
	var errs []error
	for _, c := range both {
		if c.Rig != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// withPeer is a world with the peer.
func (b *bench) withPeer(ctx context.Context, program string, o lab.Options) (c contender, err error) {
	r, err := rig.New(ctx, rig.Options{Lab: o, Bin: b.bin, Idle: true})
	if err != nil {
		return c, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	script := "ip mptcp limits set subflows 8 add_addr_accepted 8\n"
	if _, err := r.Converter.Run(script); err != nil {
		return c, err
	}
	for _, w := range r.WANs {
		script += fmt.Sprintf("ip mptcp endpoint add %v dev %s subflow\n", w.Gateway4.Addr(), w.Name)
	}
	if _, err := r.Gateway.Run(script + peerRoutes); err != nil {
		return c, err
	}
	start := func(n *lab.Node, name, config string) (*rig.Process, error) {
		file := filepath.Join(r.UCI, name+".json")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return nil, err
		}
		return r.Launch(n, program, "run", "-c", file)
	}
	far, err := start(r.Converter, "converter", fmt.Sprintf(peerConverter, peerPort))
	if err != nil {
		return c, err
	}
	near, err := start(r.Gateway, "gateway", fmt.Sprintf(peerGateway, lab.Converter4, peerPort))
	if err != nil {
		return c, err
	}
	err = r.Await(near, func() error {
		_, err := r.FromHost(lab.Server4).Do(ctx, traffic.Download, traffic.Request{Bytes: 1})
		return err
	})
	return contender{r, near, far}, err
}

// comparison is the table: the peer, braid, their ratio, and what it ought to
// be.
type comparison struct{ *table }

func (t comparison) add(name, format string, peer, braid float64, aim string) {
	if math.IsNaN(peer) || math.IsNaN(braid) {
		t.row(name, "-", "-", "-", aim) // this machine does not tell
		return
	}
	t.row(name, fmt.Sprintf(format, peer), fmt.Sprintf(format, braid), fmt.Sprintf("%.2f", braid/peer), aim)
}

// peer compares braid with the peer, which takes turns with it.
func (b *bench) peer(ctx context.Context) error {
	program, err := peerProgram(ctx)
	if err != nil {
		fmt.Printf("\nsing-box %s cannot be had, nothing is compared with it: %v\n", peerVersion, err)
		return nil
	}
	t := comparison{newTable(fmt.Sprintf("Beside sing-box %s, medians of %d turns", peerVersion, b.repeat), "sing-box", "braid", "ratio", "aim")}
	return errors.Join(
		b.peerUnshaped(ctx, program, t),
		b.peerTransfers(ctx, program, t, "50 10 ms + 20 30 ms", over(line(50e6, 10), line(20e6, 30)), 5*time.Second, "", "<= 0.5"),
		b.peerFetch(ctx, program, t))
}

// peerUnshaped compares over lines that only the machine limits.
func (b *bench) peerUnshaped(ctx context.Context, program string, t comparison) error {
	o := lab.Options{Veth: true}
	return errors.Join(
		b.peerTransfers(ctx, program, t, "unshaped", o, 3*time.Second, ">= 1.1", "<= 0.8"),
		b.peerConnections(ctx, program, t, o),
		b.peerMemory(ctx, program, t, o))
}

// transfers are what one of the two took for its downloads; figures are one a
// turn.
type transfers struct {
	rate                         []float64 // bit/s
	cpu, syscalls, wakeups       []float64 // of the gateway's program, a GB or MB
	farCPU, farCalls, farWakeups []float64
}

func (b *bench) peerTransfers(ctx context.Context, program string, t comparison, name string, o lab.Options, length time.Duration, aimRate, aimCPU string) (err error) {
	both, err := b.contenders(ctx, program, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBoth(both)) }()
	var all [2]transfers
	for range b.repeat {
		for i, c := range both {
			if err := all[i].turn(ctx, c, length); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	p, q := &all[0], &all[1]
	for _, f := range []struct {
		name, format string
		unit         float64
		peer, braid  []float64
		aim          string
	}{
		{"Mbit/s", "%.0f", 1e6, p.rate, q.rate, aimRate},
		{"gateway, CPU s/GB", "%.2f", 1, p.cpu, q.cpu, aimCPU},
		{"far end, CPU s/GB", "%.2f", 1, p.farCPU, q.farCPU, aimCPU},
		{"gateway, system calls/MB", "%.0f", 1, p.syscalls, q.syscalls, ""},
		{"far end, system calls/MB", "%.0f", 1, p.farCalls, q.farCalls, ""},
		{"gateway, wake-ups/MB", "%.1f", 1, p.wakeups, q.wakeups, ""},
		{"far end, wake-ups/MB", "%.1f", 1, p.farWakeups, q.farWakeups, ""},
	} {
		t.add(name+": "+f.name, f.format, median(f.peer)/f.unit, median(f.braid)/f.unit, f.aim)
	}
	return check(both[1].Rig)
}

// turn is one download.
func (t *transfers) turn(ctx context.Context, c contender, length time.Duration) error {
	if _, err := tcpmem.Room(ctx); err != nil {
		return err
	}
	near, err := count(c.near)
	if err != nil {
		return err
	}
	far, err := count(c.far)
	if err != nil {
		return err
	}
	rate, bytes, err := download(ctx, c.FromHost(lab.Server4), length)
	if err := errors.Join(err, near.stop(), far.stop()); err != nil {
		return err
	}
	t.rate = append(t.rate, rate)
	add := func(list *[]float64, v, per float64) { *list = append(*list, v/(float64(bytes)/per)) }
	add(&t.cpu, near.cpu, 1e9)
	add(&t.farCPU, far.cpu, 1e9)
	add(&t.syscalls, near.syscalls, 1e6)
	add(&t.farCalls, far.syscalls, 1e6)
	add(&t.wakeups, near.wakeups, 1e6)
	add(&t.farWakeups, far.wakeups, 1e6)
	return nil
}

// counts are what a process does from count to stop.
type counts struct {
	p                      *rig.Process
	calls                  *rig.Syscalls // nil: this kernel does not tell
	cpu, syscalls, wakeups float64       // of cpu, seconds
}

func count(p *rig.Process) (*counts, error) {
	u, err := p.Usage()
	if err != nil {
		return nil, err
	}
	w, err := p.Wakeups()
	if err != nil {
		return nil, err
	}
	c := &counts{p: p, cpu: -u.CPU.Seconds(), wakeups: -float64(w), syscalls: math.NaN()}
	c.calls, _ = p.CountSyscalls()
	return c, nil
}

func (c *counts) stop() error {
	u, err := c.p.Usage()
	w, wakeErr := c.p.Wakeups()
	c.cpu += u.CPU.Seconds()
	c.wakeups += float64(w)
	if c.calls == nil {
		return errors.Join(err, wakeErr)
	}
	defer c.calls.Close()
	n, callErr := c.calls.Count()
	c.syscalls = float64(n)
	return errors.Join(err, wakeErr, callErr)
}

func (b *bench) peerConnections(ctx context.Context, program string, t comparison, o lab.Options) (err error) {
	both, err := b.contenders(ctx, program, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBoth(both)) }()
	load := traffic.Load{Clients: 16, Bytes: 1000, For: 2 * time.Second}
	var rates, near, far [2][]float64
	for range b.repeat {
		for i, c := range both {
			if _, err := tcpmem.Room(ctx); err != nil {
				return err
			}
			n, errNear := count(c.near)
			f, errFar := count(c.far)
			if err := errors.Join(errNear, errFar); err != nil {
				return err
			}
			report, err := run(ctx, c.FromHost(lab.Server4), load)
			if err := errors.Join(err, n.stop(), f.stop()); err != nil {
				return err
			}
			rates[i] = append(rates[i], report.PerSecond())
			near[i] = append(near[i], n.cpu*1e6/float64(report.Connections))
			far[i] = append(far[i], f.cpu*1e6/float64(report.Connections))
		}
	}
	t.add("short connections/s, 16 clients", "%.0f", median(rates[0]), median(rates[1]), ">= 2")
	t.add("  gateway, CPU us each", "%.0f", median(near[0]), median(near[1]), "")
	t.add("  far end, CPU us each", "%.0f", median(far[0]), median(far[1]), "")
	return check(both[1].Rig)
}

func (b *bench) peerMemory(ctx context.Context, program string, t comparison, o lab.Options) (err error) {
	both, err := b.contenders(ctx, program, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBoth(both)) }()
	if err := pause(ctx, rest); err != nil {
		return err
	}
	var idle, busy [2]rig.Usage
	for i, c := range both {
		var plain net.ListenConfig
		plain.SetMultipathTCP(false) // else the converter would leave
		echo, err := c.Server.Listen(ctx, plain, "tcp", fmt.Sprintf(":%d", echoPort))
		if err != nil {
			return err
		}
		defer echo.Close()
		go serveEcho(echo)
		if idle[i], err = c.near.Usage(); err != nil {
			return err
		}
		conns, err := open(ctx, c.Rig, idleConnections)
		if err := errors.Join(err, pause(ctx, rest)); err != nil {
			return err
		}
		busy[i], err = c.near.Usage()
		for _, conn := range conns {
			conn.Close()
		}
		if err != nil {
			return err
		}
	}
	t.add("gateway, idle, MB", "%.1f", float64(idle[0].Resident)/1e6, float64(idle[1].Resident)/1e6, "")
	t.add(fmt.Sprintf("gateway, %d open connections, MB", idleConnections), "%.1f",
		float64(busy[0].Resident)/1e6, float64(busy[1].Resident)/1e6, "<= 0.5")
	return check(both[1].Rig)
}

// peerFetch compares where the round trip is that of the line, which a proxy can
// save, and where it is that of the server, which nobody can.
func (b *bench) peerFetch(ctx context.Context, program string, t comparison) error {
	behind := over(line(100e6, 0), line(50e6, 0))
	behind.ServerDelay = 10 * time.Millisecond
	return errors.Join(
		b.peerObject(ctx, program, t, "64 kB, 20 ms on the line, ms", over(line(50e6, 10), line(20e6, 30))),
		b.peerObject(ctx, program, t, "64 kB, 20 ms behind the converter, ms", behind))
}

func (b *bench) peerObject(ctx context.Context, program string, t comparison, name string, o lab.Options) (err error) {
	const bytes, warm = 64 << 10, 2
	both, err := b.contenders(ctx, program, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBoth(both)) }()
	var ms [2][]float64
	for i := range warm + 7*b.repeat {
		for j, c := range both {
			report, err := c.FromHost(lab.Server4).Do(ctx, traffic.Download, traffic.Request{Bytes: bytes})
			if err != nil {
				return err
			}
			if i >= warm {
				ms[j] = append(ms[j], report.Duration.Seconds()*1e3)
			}
		}
	}
	t.add(name, "%.1f", median(ms[0]), median(ms[1]), "<= 0.9")
	return check(both[1].Rig)
}
