// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"braid/mcp/server"
	"braid/test/netns"
	"braid/transport/convert"
	"braid/transport/mptcp"
	"braid/transport/proof"
)

// In the environment asProgram makes this binary be braid-mcp, and asEcho a server
// at the address that it has.
const (
	asProgram = "BRAID_MCP_TEST_PROGRAM"
	asEcho    = "BRAID_MCP_TEST_ECHO"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	if at := os.Getenv(asEcho); at != "" {
		l, err := net.Listen("tcp", at)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		serveEcho(l)
	}
	netns.Main(m)
}

// place is a directory with a converter's files.
type place struct {
	t   *testing.T
	dir string
}

func newPlace(t *testing.T, text string) *place {
	p := &place{t, t.TempDir()}
	if err := os.WriteFile(p.file(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) file() string   { return filepath.Join(p.dir, "mcp.toml") }
func (p *place) socket() string { return filepath.Join(p.dir, "control") }

// do runs a command and returns what it prints, and its status.
func (p *place) do(args ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	status = run(args, &out, &errs)
	return out.String(), errs.String(), status
}

func (p *place) must(args ...string) string {
	p.t.Helper()
	out, errs, status := p.do(args...)
	if status != 0 {
		p.t.Fatalf("%v: status %d\n%s", args, status, errs)
	}
	return out
}

// manager does for a converter what systemd does, as far as it is told.
type manager struct {
	place    *place
	socket   *net.UnixConn
	log      *os.File
	watchdog string // interval, µs
	level    string // of what it logs
	limit    int    // of its files; 0: none of its own
	// in has a program started in another network namespace; nil: in this one.
	in func(start func() error) error

	mu    sync.Mutex
	pid   int
	pids  []int // all that were the main process
	files []*os.File
	told  map[string]string
	doneC map[int]chan error
}

func (p *place) manage() *manager {
	p.t.Helper()
	name := filepath.Join(p.dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		p.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		p.t.Fatal(err)
	}
	m := &manager{place: p, socket: c, log: log, watchdog: "200000", level: "debug", told: make(map[string]string), doneC: make(map[int]chan error)}
	go m.listen()
	p.t.Cleanup(func() {
		m.stop()
		c.Close()
		for _, f := range m.files {
			f.Close()
		}
		if p.t.Failed() {
			b, _ := os.ReadFile(log.Name())
			p.t.Logf("log:\n%s", b)
		}
	})
	return m
}

func (m *manager) listen() {
	b, oob := make([]byte, 4096), make([]byte, 256)
	for {
		n, on, _, _, err := m.socket.ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		m.mu.Lock()
		for _, line := range strings.Split(string(b[:n]), "\n") {
			key, value, _ := strings.Cut(line, "=")
			m.told[key] = value
			switch key {
			case "MAINPID":
				m.pid, _ = strconv.Atoi(value)
				m.pids = append(m.pids, m.pid)
			case "FDSTOREREMOVE":
				for _, f := range m.files {
					f.Close()
				}
				m.files = nil
			case "FDSTORE":
				msgs, _ := syscall.ParseSocketControlMessage(oob[:on])
				for _, msg := range msgs {
					fds, _ := syscall.ParseUnixRights(&msg)
					for _, fd := range fds {
						m.files = append(m.files, os.NewFile(uintptr(fd), "stored"))
					}
				}
			}
		}
		m.mu.Unlock()
	}
}

func (m *manager) heard(key string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.told[key]
}

// start starts a converter with the files that are stored, and waits until it
// is ready.
func (m *manager) start() {
	t := m.place.t
	t.Helper()
	m.mu.Lock()
	delete(m.told, "READY")
	script := `LISTEN_PID=$$ exec "$0" "$@"`
	if m.limit > 0 {
		script = fmt.Sprintf("ulimit -n %d; %s", m.limit, script)
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "/proc/self/exe"},
		"serve", "-config", m.place.file(), "-socket", m.place.socket(), "-log", m.level)...)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[3] = exe
	cmd.Env = append(os.Environ(), asProgram+"=1", "NOTIFY_SOCKET="+m.socket.LocalAddr().String(),
		"WATCHDOG_USEC="+m.watchdog, "LISTEN_FDS="+strconv.Itoa(len(m.files)))
	cmd.ExtraFiles = m.files
	cmd.Stdout, cmd.Stderr = m.log, m.log
	if m.in != nil {
		err = m.in(cmd.Start)
	} else {
		err = cmd.Start()
	}
	if err == nil {
		m.pid = cmd.Process.Pid
		m.pids = append(m.pids, m.pid)
		doneC := make(chan error, 1)
		m.doneC[m.pid] = doneC
		go func() { doneC <- cmd.Wait() }()
	}
	m.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	m.wait("it is ready", func() bool { return m.heard("READY") == "1" })
}

func (m *manager) wait(what string, until func() bool) {
	m.place.t.Helper()
	for deadline := time.Now().Add(patience); !until(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			m.place.t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (m *manager) signal(s syscall.Signal) {
	m.place.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := syscall.Kill(m.pid, s); err != nil {
		m.place.t.Error(err)
	}
}

// restart is systemctl restart.
func (m *manager) restart() {
	m.signal(syscall.SIGTERM)
	m.wait("it has ended", m.ended)
	m.start()
}

// ended says whether the main process has; one that was handed over to is no
// child of ours.
func (m *manager) ended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if doneC := m.doneC[m.pid]; doneC != nil {
		select {
		case err := <-doneC:
			doneC <- err
			return true
		default:
			return false
		}
	}
	return gone(m.pid)
}

// gone says whether a process has ended; that nobody has asked how does not
// matter.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(b, []byte(") Z "))
}

func (m *manager) stop() {
	pid := m.main()
	for deadline := time.Now().Add(10 * time.Second); pid != 0 && !m.ended(); time.Sleep(10 * time.Millisecond) {
		syscall.Kill(pid, syscall.SIGTERM)
		if time.Now().After(deadline) {
			m.place.t.Error("it does not end")
			syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
}

const address = "127.0.0.1:5124"

// patience is how long tests wait for what has to come.
const patience = time.Minute

// gateway asks the converter with a key or a cookie.
type gateway struct {
	from   netip.Addr     // where its connections begin; invalid: anywhere
	at     netip.AddrPort // the converter's; invalid: address
	dialer mptcp.Dialer
	proof  *proof.Client
	cookie []byte
}

// open has the converter connect to a server.
func (g *gateway) open(ctx context.Context, server string) (*mptcp.Conn, error) {
	at := g.at
	if !at.IsValid() {
		at = netip.MustParseAddrPort(address)
	}
	for range 2 {
		m := convert.Request(convert.NewConnect(netip.MustParseAddrPort(server)), g.cookie)
		var r proof.Request
		c, err := g.dialer.DialEach(ctx, 0, g.from, at, func() (_ []byte, err error) {
			if g.proof != nil {
				r, err = g.proof.Prove(m)
			} else {
				r.Bytes, err = m.Append(nil)
			}
			return r.Bytes, err
		})
		if err != nil {
			return nil, err
		}
		c.SetDeadline(time.Now().Add(patience))
		b, err := convert.Receive(c)
		var answer convert.Message
		if err == nil {
			answer, _, err = convert.Parse(b)
		}
		if err != nil {
			c.Close()
			return nil, err
		}
		e, refused := convert.Find[convert.Error](answer)
		switch {
		case !refused:
			return c, nil
		case e.Code != convert.MissingCookie || g.proof == nil:
			c.Close()
			return nil, e
		}
		c.Close()
		if err := r.Hear(b); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("asked twice for a proof")
}

// echo serves an echo, far away.
func echo(t *testing.T) string {
	l := netns.ListenFar(t, false)
	go serveEcho(l)
	return l.Addr().String()
}

// echoApart is echo by a process with files of its own.
func echoApart(t *testing.T) string {
	const at = "198.18.0.80:7"
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env, cmd.Stderr = append(os.Environ(), asEcho+"="+at), os.Stderr
	netns.InFar(t, cmd.Start)
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
			return at
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func serveEcho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.Copy(struct{ io.Writer }{c}, c) // else it takes a pipe, of two files
		}()
	}
}

// once opens a connection and has something echoed. It does not wait for the end
// behind that: where both ends signal addresses, as here in one namespace, the
// kernel now and then loses a DATA_FIN for good (6.18, one in 4,000).
func (g *gateway) once(ctx context.Context, server string) error {
	c, err := g.open(ctx, server)
	if err != nil {
		return err
	}
	defer c.Close()
	want := []byte(time.Now().String())
	if _, err := c.Write(want); err != nil {
		return err
	}
	c.CloseWrite()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%q came back as %q", want, got)
	}
	return nil
}

// What a gateway could not be told as its converter's address makes no client.
func TestHost(t *testing.T) {
	p := newPlace(t, "")
	add := func(host, name string) (string, string, int) {
		return p.do("add", "-config", p.file(), "-socket", p.socket(), "-host", host, name)
	}
	for host, at := range map[string]string{
		"mcp.example.net": "mcp.example.net:5124", "192.0.2.10": "192.0.2.10:5124",
		"2001:db8::1": "[2001:db8::1]:5124", "[2001:db8::1]": "[2001:db8::1]:5124",
	} {
		out, errs, status := add(host, fmt.Sprintf("c%d", len(p.must("list", "-config", p.file()))))
		if status != 0 || !strings.HasPrefix(out, "braid://"+at+"#") {
			t.Errorf("%s: %q, %s", host, out, errs)
		}
	}
	before := p.must("list", "-config", p.file())
	for _, host := range []string{"mcp.example.net:5124", "https://mcp.example.net/", "mcp example", "[2001:db8::1]:5124", "-x", "a..b"} {
		if out, errs, status := add(host, "home"); status == 0 || out != "" || !strings.Contains(errs, "-host") {
			t.Errorf("%s: %q, %s", host, out, errs)
		}
	}
	if after := p.must("list", "-config", p.file()); after != before {
		t.Errorf("clients:\n%s", after)
	}
}

// From an empty configuration to a client that is served, told of, and removed
// in mid-connection, without a restart.
func TestClients(t *testing.T) {
	p := newPlace(t, `metrics = "127.0.0.1:9124"`)
	far := echo(t)
	m := p.manage()
	m.start()
	flags := []string{"-config", p.file(), "-socket", p.socket()}
	pair := strings.TrimSpace(p.must(append(append([]string{"add"}, flags...), "-host", "mcp.example.net", "home")...))
	key, ok := strings.CutPrefix(pair, "braid://mcp.example.net:5124#")
	secret, err := hex.DecodeString(key)
	if !ok || err != nil {
		t.Fatalf("pair %q: %v", pair, err)
	}
	g := gateway{proof: proof.NewClient(secret)}
	if err := g.once(t.Context(), far); err != nil {
		t.Fatalf("added: %v", err)
	}
	if out := p.must("list", "-config", p.file()); !strings.Contains(out, "home") || strings.Contains(out, key) {
		t.Errorf("list: %s", out)
	}
	open, err := g.open(t.Context(), far)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	stranger := gateway{proof: proof.NewClient([]byte("sixteen bytes or so"))}
	if err := stranger.once(t.Context(), far); !isCode(err, convert.NotAuthorized) {
		t.Errorf("a stranger: %v", err)
	}
	var st server.Status
	m.wait("only one is open", func() bool { st = status(t, p); return st.Connections == 1 })
	if len(st.Clients) != 1 || st.WrongCookies != 1 {
		t.Fatalf("status: %+v", st)
	}
	c := st.Clients[0]
	if c.Name != "home" || c.Open != 1 || c.Relayed != 2 || c.Subflows != 1 || c.Up == 0 || c.Down != c.Up ||
		len(c.Lines) != 1 || c.Lines[0].Address.String() != "127.0.0.1" || c.Seen == nil || c.Refused["first proof"] != 1 {
		t.Errorf("client: %+v", c)
	}
	if out := p.must("status", "-socket", p.socket()); !strings.Contains(out, "home") || !strings.Contains(out, "127.0.0.1") {
		t.Errorf("status: %s", out)
	}
	m.wait("a status and a watchdog were heard", func() bool {
		return m.heard("WATCHDOG") == "1" && strings.Contains(m.heard("STATUS"), "of 1 clients")
	})
	if _, errs, status := p.do(append(append([]string{"add"}, flags...), "home")...); status != exitFailed || !strings.Contains(errs, "already") {
		t.Errorf("again: %d %s", status, errs)
	}
	p.must(append(append([]string{"remove"}, flags...), "home")...)
	if _, err := open.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("a removed client's connection: %v", err)
	}
	if err := g.once(t.Context(), far); !isCode(err, convert.NotAuthorized) {
		t.Errorf("removed: %v", err)
	}
	if _, _, status := p.do(append(append([]string{"remove"}, flags...), "home")...); status != exitFailed {
		t.Errorf("removed again: %d", status)
	}
}

func isCode(err error, code convert.ErrorCode) bool {
	var e convert.Error
	return errors.As(err, &e) && e.Code == code
}

func status(t *testing.T, p *place) (st server.Status) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.must("status", "-json", "-socket", p.socket())), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

const shared = "000102030405060708090a0b0c0d0e0f"

// A reload holds for what is to come, and leaves alone what is open; a wrong
// one changes nothing.
func TestReload(t *testing.T) {
	client := "[[client]]\nname = \"a\"\ncookie = \"" + shared + "\"\n"
	p := newPlace(t, "metrics = \"\"\n"+client)
	server := echo(t)
	m := p.manage()
	m.start()
	cookie, _ := hex.DecodeString(shared)
	g := gateway{cookie: cookie}
	open, err := g.open(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for _, step := range []struct {
		name, text string
		want       convert.ErrorCode // 0: served
	}{
		{"wrong", "nonsense = 1\n" + client, 0},
		{"one connection", client + "connections = 1", convert.ResourceExceeded},
		{"denied", "deny_destinations = [\"198.18.0.0/24\"]\n" + client, convert.NotAuthorized},
		{"expired", client + "expires = 2020-01-01", convert.NotAuthorized},
		{"as before", client, 0},
	} {
		next := p.file() + ".new" // a part of it would be a valid one, without clients
		err := os.WriteFile(next, []byte("metrics = \"\"\n"+step.text), 0o600)
		if err == nil {
			err = os.Rename(next, p.file())
		}
		if err != nil {
			t.Fatal(err)
		}
		m.signal(syscall.SIGHUP)
		if step.name == "wrong" { // before the next one is there
			m.wait("something is said of the wrong one", func() bool {
				b, _ := os.ReadFile(m.log.Name())
				return bytes.Contains(b, []byte("nonsense: unknown key"))
			})
		}
		m.wait(step.name+" holds", func() bool {
			err := g.once(t.Context(), server)
			return step.want == 0 && err == nil || isCode(err, step.want)
		})
	}
	if _, err := open.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(open, make([]byte, 1)); err != nil {
		t.Errorf("what was open: %v", err)
	}
}

// Under load nobody notices 20 restarts, by systemd and by handing over: no
// connection is refused, none is reset.
func TestRestarts(t *testing.T) {
	p := newPlace(t, "metrics = \"\"\ndrain = 10\n[[client]]\nname = \"a\"\nkey = \""+shared+shared+"\"\n")
	server := echo(t)
	m := p.manage()
	m.start()
	secret, _ := hex.DecodeString(shared + shared)
	g := gateway{proof: proof.NewClient(secret)}
	if err := g.once(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var served, failed atomic.Int64
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := g.once(t.Context(), server); err != nil {
					failed.Add(1)
					t.Errorf("connection: %v", err)
				}
				served.Add(1)
			}
		})
	}
	var kept []*mptcp.Conn
	for i := range 20 {
		before := served.Load()
		m.wait("some were served", func() bool { return served.Load() > before+20 })
		if i%2 == 0 {
			m.restart()
			continue
		}
		// What is open goes on as long as it likes after a handover.
		c, err := g.open(t.Context(), server)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, c)
		old := m.main()
		m.signal(syscall.SIGUSR2)
		m.wait("it has handed over", func() bool { return m.main() != old })
	}
	cancel()
	running.Wait()
	t.Logf("%d connections, %d failed", served.Load(), failed.Load())
	for _, c := range slices.Backward(kept) {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("what was open: %v", err)
		}
		c.Close()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for pid, doneC := range m.doneC {
		if pid == m.pid {
			continue
		}
		select {
		case err := <-doneC:
			doneC <- err
			if err != nil {
				t.Errorf("a predecessor ended: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("predecessor %d still runs", pid)
		}
	}
}

// What it listens at may change with a restart, also where one address has the port of
// the other, and stays what was asked for: 0.0.0.0 is of IPv4 alone.
func TestListensElsewhere(t *testing.T) {
	p := newPlace(t, "")
	server := echo(t)
	m := p.manage()
	secret, _ := hex.DecodeString(shared + shared)
	for i, step := range []struct {
		listen string
		v6     bool
	}{
		{"[::]:5124", true}, {"127.0.0.1:5124", false}, {"0.0.0.0:5124", false}, {"0.0.0.0:5124", false}, {"[::]:5124", true}, {"[::]:5124", true},
	} {
		text := fmt.Sprintf("metrics = \"\"\nlisten = [%q]\n[[client]]\nname = \"a\"\nkey = %q\n", step.listen, shared+shared)
		if err := os.WriteFile(p.file(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			m.start()
		} else {
			m.restart()
		}
		g := gateway{proof: proof.NewClient(secret)}
		if err := g.once(t.Context(), server); err != nil {
			t.Errorf("%s: %v", step.listen, err)
		}
		c, err := net.Dial("tcp", "[::1]:5124")
		if err == nil {
			c.Close()
		}
		if (err == nil) != step.v6 {
			t.Errorf("%s: over IPv6: %v", step.listen, err)
		}
	}
}

// What the service manager must not take for "never again" is not what it does:
// a crash, a port that is taken. A wrong configuration is.
func TestExits(t *testing.T) {
	unit, err := os.ReadFile("../../packaging/root/usr/lib/systemd/system/braid-mcp.service")
	if err != nil {
		t.Fatal(err)
	}
	setting := func(name string) string {
		_, rest, _ := strings.Cut(string(unit), "\n"+name+"=")
		value, _, _ := strings.Cut(rest, "\n")
		return value
	}
	if setting("Restart") != "on-failure" || setting("StartLimitIntervalSec") != "0" {
		t.Error("it is not restarted after every failure")
	}
	never := strings.Fields(setting("RestartPreventExitStatus"))
	for _, tt := range []struct {
		name, text string
		end        syscall.Signal
		again      bool
	}{
		{"a fault", "", syscall.SIGSEGV, true}, // the runtime ends as after a panic
		{"out of memory", "", syscall.SIGKILL, true},
		{"stuck", "", syscall.SIGABRT, true}, // as the watchdog does
		{"a port that is taken", "listen = [\"127.0.0.1:5124\"]\n", 0, true},
		{"a wrong configuration", "nonsense = 1\n", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.end == 0 {
				l, err := net.Listen("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			p := newPlace(t, "metrics = \"\"\n"+tt.text)
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(exe, "serve", "-config", p.file(), "-socket", p.socket())
			cmd.Env = append(os.Environ(), asProgram+"=1")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(20 * time.Second); tt.end != 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				if _, err := os.Stat(p.socket()); err == nil {
					cmd.Process.Signal(tt.end)
					break
				}
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) {
				t.Fatalf("it ended with %v", err)
			}
			status := strconv.Itoa(exit.ExitCode())
			if again := !slices.Contains(never, status); again != tt.again {
				t.Errorf("status %s, started again: %v", status, again)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	p := newPlace(t, "")
	for _, tt := range []struct {
		args []string
		want int
	}{
		{nil, exitUsage}, {[]string{"nonsense"}, exitUsage}, {[]string{"add"}, exitUsage}, {[]string{"add", "a", "b"}, exitUsage},
		{[]string{"serve", "x"}, exitUsage}, {[]string{"serve", "-log", "loud"}, exitUsage}, {[]string{"cookie"}, 0}, {[]string{"--version"}, 0},
		{[]string{"check", "-config", "/nonexistent"}, exitConfig}, {[]string{"check", "-config", p.file()}, 0},
		{[]string{"status", "-socket", p.socket()}, exitFailed}, {[]string{"help"}, 0}, {[]string{"add", "-h"}, 0},
	} {
		if _, _, got := p.do(tt.args...); got != tt.want {
			t.Errorf("%v: status %d, want %d", tt.args, got, tt.want)
		}
	}
	for args, want := range map[string]string{
		"version": "dev\n", "--version": "braid-mcp dev\n", "help": usage, "-h": usage,
		"serve --help": usage, "check -config nowhere -help": usage, "version --help": usage,
	} {
		if out := p.must(strings.Fields(args)...); out != want {
			t.Errorf("%s: %q", args, out)
		}
	}
}
