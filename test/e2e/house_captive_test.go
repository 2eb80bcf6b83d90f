// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// What stands on the fibre and answers in others' place. The LTE line works.
//
//	                    .-- fibre -- box --.
//	host ---- gateway --+                  +---- converter, server
//	                    '------- lte ------'

// takes has the fibre's router give all TCP that goes out to a port of its own.
const takes = `table ip box {
	chain prerouting {
		type nat hook prerouting priority dstnat
		iifname "gw" meta l4proto tcp redirect to :8000
	}
}`

// portal answers every connection with a redirect, once it has been asked
// something, and closes.
func portal(t *testing.T, n *lab.Node) {
	l := listen(t, n, 8000)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var buf [1500]byte
				if _, err := c.Read(buf[:]); err == nil {
					io.WriteString(c, "HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
}

// proxy ends every connection, and carries what it said on by one of its own.
func proxy(t *testing.T, n *lab.Node) {
	l := listen(t, n, 8000)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				to, err := meant(c.(*net.TCPConn))
				if err != nil {
					return
				}
				var d net.Dialer
				d.SetMultipathTCP(false)
				far, err := n.Dial(context.Background(), d, "tcp4", to)
				if err != nil {
					return
				}
				defer far.Close()
				go func() {
					io.Copy(far, c)
					far.(*net.TCPConn).CloseWrite()
				}()
				io.Copy(c, far)
			}()
		}
	}()
}

// meant is to where a connection was opened that has been redirected.
func meant(c *net.TCPConn) (to string, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return "", err
	}
	const originalDst = 80 // SO_ORIGINAL_DST, linux/netfilter_ipv4.h
	raw.Control(func(fd uintptr) {
		var a *unix.IPv6Mreq // as large as a struct sockaddr_in
		if a, err = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, originalDst); err == nil {
			m := a.Multiaddr
			to = fmt.Sprintf("%d.%d.%d.%d:%d", m[4], m[5], m[6], m[7], int(m[2])<<8|int(m[3]))
		}
	})
	return to, err
}

func TestHouseBehindBox(t *testing.T) {
	drop := func(what string) string {
		return "table ip drops {\nchain forward {\ntype filter hook forward priority filter\niifname \"gw\" " + what + " drop\n}\n}"
	}
	for _, tt := range []struct {
		name string
		box  func(t *testing.T, n *lab.Node)
		rule []string
	}{
		{"captive portal", portal, []string{takes}},
		{"captive portal that answers no pings", portal, []string{takes, drop("meta l4proto != tcp")}},
		{"transparent proxy", proxy, []string{takes}},
		{"dropped port", func(*testing.T, *lab.Node) {}, []string{drop("tcp dport 5124")}},
	} {
		for _, from := range []string{"from the beginning", "later"} {
			t.Run(tt.name+" "+from, func(t *testing.T) {
				h := newHouse(t, lab.Options{}, rig.DefaultUCI)
				box := h.WAN("fibre").Router
				tt.box(t, box)
				close := func() {
					for _, rules := range tt.rule {
						nft(t, box, rules)
					}
				}
				if from == "from the beginning" {
					close()
				}
				must(t, h.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"))
				must(t, h.StartAgent())
				working(t, h.Rig, "lte", true)
				if from == "later" {
					working(t, h.Rig, "fibre", true)
					transfer(t, h.FromHost(lab.Server4), traffic.Download, 1e4)
					close()
				}
				h.asIfAway(t)
				for _, rules := range tt.rule {
					sh(t, box, "nft delete "+strings.Join(strings.Fields(rules)[:3], " "))
				}
				began := time.Now()
				eventually(t, 5*time.Second, func() error {
					if w := h.wan(t, "fibre"); w.State != "up" {
						return fmt.Errorf("the fibre is %+v", w)
					}
					return nil
				})
				t.Logf("the fibre is up again after %v", time.Since(began))
				stop := background(t, h.FromHost(lab.Server4))
				defer stop()
				h.carries(t, "fibre", "198.51.100.2", "")
			})
		}
	}
}

// asIfAway fails unless, after one connection, all are carried by LTE alone and
// at once, and the fibre is not up.
func (h house) asIfAway(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := h.FromHost(lab.Server4).Identify(ctx)
	t.Logf("the first connection: %v", err)
	slowest := time.Duration(0)
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		began := time.Now()
		c := counted(t, h.Rig, func() { transfer(t, h.FromHost(lab.Server4), traffic.Download, 1e4) })
		slowest = max(slowest, time.Since(began))
		if !converted(c) {
			t.Errorf("carried otherwise: %+v", c)
		}
	}
	t.Logf("the slowest connection took %v", slowest)
	if slowest > 900*time.Millisecond { // to wait for the fibre takes a second
		t.Error("connections wait for the fibre")
	}
	eventually(t, 5*time.Second, func() error {
		w := h.wan(t, "fibre")
		if w.State == "up" || len(w.Legs) == 0 || len(w.Legs[0].Converters) != 1 {
			return fmt.Errorf("the fibre is %+v", w)
		}
		return nil
	})
	if l := h.wan(t, "lte").Legs[0]; len(l.Converters) != 1 || l.Converters[0].State != "up" || l.Converters[0].RTT <= 0 {
		t.Errorf("over LTE the converter is %+v", l.Converters)
	}
}

// The converter's host is away for 75 s, and refuses then for a moment.
func TestHouseConverterAway(t *testing.T) {
	h := newHouse(t, lab.Options{}, strings.Replace(rig.DefaultUCI, "\tlist lan 'lan0'\n", "\tlist lan 'lan0'\n\toption fallback 'reject'\n", 1))
	h.moveIn(t, "fibre", "lte")
	transfer(t, h.FromHost(lab.Server4), traffic.Download, 1e4)
	sh(t, h.Converter, "ip link set eth0 down")
	state := func(want string) {
		t.Helper()
		eventually(t, 10*time.Second, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			h.FromHost(lab.Server4).Identify(ctx) // somebody wants it
			if s := status(t, h.Rig); s.Converters[0].State != want {
				return fmt.Errorf("the converter is %+v", s.Converters)
			}
			return nil
		})
	}
	state("down")
	for _, w := range []string{"fibre", "lte"} {
		eventually(t, 10*time.Second, func() error { // what was under way may have looked like the line's silence
			if s := h.wan(t, w); s.State == "down" {
				return fmt.Errorf("%s is %+v", w, s)
			}
			return nil
		})
	}
	time.Sleep(75 * time.Second)
	sh(t, h.Converter, `ip link set eth0 up
		ip route add default via 192.0.2.1 dev eth0
		ip -6 addr add 2001:db8:10::10/64 dev eth0 nodad || true`)
	began := time.Now()
	state("up")
	if took := time.Since(began); took > 5*time.Second*patience {
		t.Errorf("used again after %v", took)
	} else {
		t.Logf("used again after %v", took)
	}
	transfer(t, h.FromHost(lab.Server4), traffic.Download, 1e4)
}

// The converter has moved, and its name leads to the new address a while later.
func TestHouseConverterMoved(t *testing.T) {
	h := newHouse(t, lab.Options{}, strings.Replace(rig.DefaultUCI, "'192.0.2.10'", "'mcp.example'", 1))
	own := filepath.Join("/etc/netns", h.Gateway.Name) // ip netns exec shows it as /etc
	must(t, os.MkdirAll(own, 0o755))
	defer os.RemoveAll(own)
	name := func(address string) {
		must(t, os.WriteFile(filepath.Join(own, "hosts"), []byte(address+" mcp.example\n"), 0o644))
	}
	name("192.0.2.10")
	h.moveIn(t, "fibre", "lte")
	converted := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var err error
		c := counted(t, h.Rig, func() { _, err = h.FromHost(lab.Server4).Identify(ctx) })
		if err != nil || c.Convert != 1 {
			return fmt.Errorf("carried otherwise: %+v, %v", c, err)
		}
		return nil
	}
	eventually(t, 5*time.Second, converted)
	sh(t, h.Converter, "ip addr del 192.0.2.10/26 dev eth0; ip addr add 192.0.2.11/26 dev eth0; ip route replace default via 192.0.2.1 dev eth0")
	eventually(t, 15*time.Second, func() error {
		converted()
		if s := status(t, h.Rig); s.Converters[0].State != "down" {
			return fmt.Errorf("the converter is %+v", s.Converters)
		}
		return nil
	})
	name("192.0.2.11")
	began := time.Now()
	eventually(t, 10*time.Second, converted)
	t.Logf("used again after %v", time.Since(began))
}
