// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What is expedited by one side is by the other: counted in the packets of both
// ways, from the SYN on.
func TestTrafficClass(t *testing.T) {
	const ef = 46 << 2
	for _, tt := range []struct {
		addr string
		tcp  bool
		sent bool // by the dialler
	}{
		{"127.0.0.1", true, true}, {"127.0.0.1", false, true}, {"::1", true, true},
		{"::1", false, false}, // MPTCP over IPv6 has no class
	} {
		t.Run(fmt.Sprintf("%s TCP %v", tt.addr, tt.tcp), func(t *testing.T) {
			lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
				var err error
				rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1) })
				return err
			}}
			lc.SetMultipathTCP(false)
			tl, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort(tt.addr, "0"))
			if err != nil {
				t.Fatal(err)
			}
			l, err := NewListener(tl.(*net.TCPListener))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			peer := netip.MustParseAddrPort(l.Addr().String())
			run(t, fmt.Sprintf(`table inet class {
				chain output {
					type filter hook output priority filter
					tcp dport %[1]d tcp flags & (syn | ack) == syn ip dscp ef counter comment "syn"
					tcp dport %[1]d tcp flags & (syn | ack) == syn ip6 dscp ef counter comment "syn"
					tcp sport %[1]d tcp flags & psh == psh ip dscp ef counter comment "answer"
					tcp sport %[1]d tcp flags & psh == psh ip6 dscp ef counter comment "answer"
				}
			}`, peer.Port()), "nft", "-f", "-")
			defer run(t, "", "nft", "delete", "table", "inet", "class")
			d := Dialer{TCP: tt.tcp}
			c, err := d.DialClass(context.Background(), ef, netip.Addr{}, peer, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			a, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			class, err := a.AnswerInClass()
			want := map[bool]uint8{true: ef}[tt.sent]
			if err != nil || class != want {
				t.Errorf("class %#x, want %#x, %v", class, want, err)
			}
			if _, err := a.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			roundTrip(t, c, "hello")
			out, err := exec.Command("nft", "list", "table", "inet", "class").Output()
			if err != nil {
				t.Fatal(err)
			}
			for _, what := range []string{"syn", "answer"} {
				seen := regexp.MustCompile(`packets [1-9][0-9]* bytes \d+ comment "` + what).MatchString(strings.ReplaceAll(string(out), "\n", " "))
				if seen != tt.sent {
					t.Errorf("expedited %s: %v, want %v\n%s", what, seen, tt.sent, out)
				}
			}
		})
	}
}
