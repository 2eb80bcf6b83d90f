// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/test/lab"
	"braid/test/rig"
)

// What a router would leave alone is carried over: the LAN host asks for
// expedited forwarding, and both lines see it; a byte that it calls urgent
// arrives in its place.
func TestHouseWithUrgentDataAndEF(t *testing.T) {
	const (
		ef   = 46 << 2 // RFC 3246, in the upper six bits
		port = 9001
		size = 8 << 20
	)
	r := start(t, rig.Options{})
	l, err := r.Server.Listen(t.Context(), net.ListenConfig{}, "tcp", fmt.Sprintf(":%d", port))
	must(t, err)
	defer l.Close()
	nft(t, r.Gateway, `table inet count {
		chain postrouting {
			type filter hook postrouting priority 100
			oifname "fibre" tcp dport 5124 ip dscp ef counter
			oifname "lte" tcp dport 5124 ip dscp ef counter
		}
	}`)
	control := func(_, _ string, rc syscall.RawConn) error {
		var failed error
		err := rc.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, ef) })
		return errors.Join(err, failed)
	}
	c, err := r.Host().Dial(t.Context(), net.Dialer{Control: control}, "tcp", netip.AddrPortFrom(lab.Server4, port).String())
	must(t, err)
	defer c.Close()
	s, err := l.Accept()
	must(t, err)
	defer s.Close()
	s.SetDeadline(time.Now().Add(30 * time.Second))

	_, err = io.WriteString(c, "before ")
	must(t, err)
	rc, err := c.(*net.TCPConn).SyscallConn()
	must(t, err)
	var failed error
	must(t, rc.Control(func(fd uintptr) { failed = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }))
	must(t, failed)
	_, err = io.WriteString(c, " after")
	must(t, err)
	got := make([]byte, len("before ! after"))
	if _, err := io.ReadFull(s, got); err != nil || string(got) != "before ! after" {
		t.Errorf("the server has %q, %v", got, err)
	}

	go c.Write(make([]byte, size))
	if n, err := io.CopyN(io.Discard, s, size); err != nil {
		t.Errorf("%d of %d bytes have come: %v", n, size, err)
	}
	counted := regexp.MustCompile(`oifname "(\w+)".*packets (\d+) `).FindAllStringSubmatch(sh(t, r.Gateway, "nft list table inet count"), -1)
	for _, m := range counted {
		if n, _ := strconv.Atoi(m[2]); n < 16 { // of up to 64 kB each: segmentation is offloaded
			t.Errorf("%d packets of %s ask for expedited forwarding", n, m[1])
		}
	}
	if len(counted) != 2 {
		t.Errorf("counters: %v", counted)
	}
}
