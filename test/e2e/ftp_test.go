// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
)

// ftpPort is where servers of FTP take commands.
const ftpPort = 21

// ftpFile is what each of them has.
const ftpFile = "all there is\n"

// serveFTP serves files by the passive mode (RFC 959, RFC 2428) to anybody, but a
// file only to the address that has asked for it, as real servers do.
func serveFTP(t *testing.T, n *lab.Node, mptcp, dataMPTCP bool) {
	t.Helper()
	var lc, dataLC net.ListenConfig
	lc.SetMultipathTCP(mptcp)
	dataLC.SetMultipathTCP(dataMPTCP)
	l, err := n.Listen(t.Context(), lc, "tcp", ":"+strconv.Itoa(ftpPort))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	from := func(c net.Conn) netip.Addr { return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap() }
	retrieve := func(c net.Conn) error {
		data, err := n.Listen(t.Context(), dataLC, "tcp", ":0")
		if err != nil {
			return err
		}
		defer data.Close()
		fmt.Fprintf(c, "229 Entering Extended Passive Mode (|||%d|)\r\n", data.Addr().(*net.TCPAddr).Port)
		data.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
		d, err := data.Accept()
		if err != nil {
			return err
		}
		defer d.Close()
		if from(d) != from(c) {
			return fmt.Errorf("data for %v, asked for by %v", from(d), from(c))
		}
		_, err = io.WriteString(d, ftpFile)
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "220 %v\r\n", from(c))
				for in := bufio.NewScanner(c); in.Scan() && in.Text() == "EPSV"; {
					if err := retrieve(c); err != nil {
						fmt.Fprintf(c, "425 %v\r\n", err)
						continue
					}
					fmt.Fprint(c, "226 Transfer complete\r\n")
				}
			}()
		}
	}()
}

// An ftp is a session of a LAN host's.
type ftp struct {
	host   *lab.Node
	server netip.Addr
	c      net.Conn
	in     *bufio.Reader
	seen   string // from where the server sees it come
}

func openFTP(t *testing.T, host *lab.Node, server netip.Addr) *ftp {
	t.Helper()
	c, err := dial(t, host, server, ftpPort)
	must(t, err)
	c.SetDeadline(time.Time{})
	s := &ftp{host: host, server: server, c: c, in: bufio.NewReader(c)}
	greeting, err := s.answer("220")
	must(t, err)
	s.seen = greeting
	return s
}

// answer is what the server says after a code.
func (s *ftp) answer(code string) (string, error) {
	s.c.SetReadDeadline(time.Now().Add(20 * time.Second))
	line, err := s.in.ReadString('\n')
	line, ok := strings.CutPrefix(strings.TrimSpace(line), code+" ")
	if err == nil && !ok {
		err = errors.New(line)
	}
	return line, err
}

// retrieve fetches the file.
func (s *ftp) retrieve(t *testing.T) error {
	t.Helper()
	if _, err := io.WriteString(s.c, "EPSV\r\n"); err != nil {
		return err
	}
	mode, err := s.answer("229")
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(strings.Trim(mode[strings.Index(mode, "("):], "(|)"))
	must(t, err)
	d, err := dial(t, s.host, s.server, uint16(port))
	if err != nil {
		return err
	}
	defer d.Close()
	file, err := io.ReadAll(d)
	if err == nil && string(file) != ftpFile {
		err = fmt.Errorf("the file is %q", file)
	}
	_, said := s.answer("226")
	return errors.Join(err, said)
}

// What one host has open to one server has one source, as servers of FTP demand:
// by the converter; straight to a server that speaks MPTCP, or does so where it takes
// commands and not where it gives files; straight because no converter answers; and
// forwarded, over lines that share the flows.
func TestFTP(t *testing.T) {
	pass := "\nconfig rule 'ftp'\n\toption proto 'tcp'\n\toption path 'pass'\n"
	for _, b := range backends {
		for _, h := range []struct {
			name           string
			uci            string
			commands, data bool   // the server's, by MPTCP
			path           string // of the last session; empty: one or the other
		}{
			{name: "convert", path: "convert"},
			{name: "direct", commands: true, data: true, path: "direct"},
			{name: "mixed", commands: true},
			{name: "fallback", path: "direct"},
			{name: "pass", uci: pass, path: "pass"},
		} {
			t.Run(b+", "+h.name, func(t *testing.T) {
				r := start(t, rig.Options{UCI: backend(t, b, rig.DefaultUCI+h.uci)})
				all := []netip.Addr{lab.Server4}
				if h.path == "pass" { // flows to different servers take different lines
					all, _ = servers(t, r, 8)
				}
				serveFTP(t, r.Server, h.commands, h.data)
				if h.name == "fallback" {
					r.MCP.Kill()
				}
				seen := make(map[string]bool)
				session := func(server netip.Addr) *ftp {
					t.Helper()
					s := openFTP(t, r.Host(), server)
					seen[s.seen] = true
					for range 2 {
						if err := s.retrieve(t); err != nil {
							t.Errorf("with %v, which sees %s: %v", server, s.seen, err)
						}
					}
					return s
				}
				for range 3 { // what is learnt of a server in one session holds in the next
					for _, server := range all {
						session(server).c.Close()
					}
					eventually(t, 5*time.Second, func() error {
						if n := status(t, r).Connections.Open; n > 0 {
							return fmt.Errorf("%d connections are open", n)
						}
						return nil
					})
				}
				first := session(all[0])
				switch h.path {
				case "pass":
					if len(seen) != 2 {
						t.Errorf("sessions come from %v", seen)
					}
				case "":
				default:
					checkPath(t, r, h.path)
				}
				if h.name == "fallback" { // the converter comes back while a session is open
					must(t, r.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"))
					eventually(t, 10*time.Second, func() error {
						if c := status(t, r).Converters[0]; c.State != "up" {
							return fmt.Errorf("the converter is %s", c.State)
						}
						return nil
					})
				}
				if err := first.retrieve(t); err != nil {
					t.Errorf("at the end: %v", err)
				}
				second := session(all[0]) // beside the first
				if second.seen != first.seen {
					t.Errorf("two sessions at once come from %s and %s", first.seen, second.seen)
				}
			})
		}
	}
}

// checkPath fails unless the last of what is open is carried by a path.
func checkPath(t *testing.T, r *rig.Rig, path string) {
	t.Helper()
	var newest report.Connection
	for _, c := range connections(t, r) {
		if newest.ID == 0 || c.ID > newest.ID {
			newest = c
		}
	}
	if string(newest.Path) != path {
		t.Errorf("the last session's path is %q, want %s", newest.Path, path)
	}
}

// That holds for what is forwarded, too, when a line returns, which has most new
// connections from then on: until what was open has ended.
func TestFTPLineReturns(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			r := start(t, rig.Options{UCI: backend(t, b, rig.DefaultUCI+"\nconfig rule\n\toption proto 'tcp'\n\toption path 'pass'\n")})
			serveFTP(t, r.Server, false, false)
			state := func(want string) {
				t.Helper()
				eventually(t, 20*time.Second, func() error {
					if w := status(t, r).WANs[0]; w.State != want {
						return fmt.Errorf("%s is %s", w.Name, w.State)
					}
					return nil
				})
			}
			must(t, r.WAN("fibre").SetDown())
			state("down")
			all4, all6 := servers(t, r, 16)
			var open []*ftp
			for _, server := range slices.Concat(all4[:8], all6[:8]) {
				open = append(open, openFTP(t, r.Host(), server))
			}
			must(t, r.WAN("fibre").SetUp())
			state("up")
			for _, s := range open {
				if err := s.retrieve(t); err != nil {
					t.Errorf("in a session with %v, which sees %s: %v", s.server, s.seen, err)
				}
			}
			seen := make(map[string]bool)
			for _, server := range slices.Concat(all4[8:], all6[8:]) {
				seen[openFTP(t, r.Host(), server).seen] = true
			}
			if len(seen) != 4 {
				t.Errorf("who has had nothing open is seen at %v", seen)
			}
		})
	}
}
