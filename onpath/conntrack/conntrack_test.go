// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"braid/onpath/nft"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

func TestConnection(t *testing.T) {
	if err := os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_acct", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	const rules = `table inet t {
		chain out { type filter hook output priority 0; ct state new tcp dport 7777 ct mark set 0x3000005; }
	}`
	if _, err := nft.Run(t.Context(), rules, "-f", "-"); err != nil {
		t.Fatal(err)
	}
	defer nft.Run(context.Background(), "", "delete", "table", "inet", "t")
	for _, addr := range []string{"127.0.0.1:7777", "[::1]:7777"} {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err := lc.Listen(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		src, dst := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(addr)
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		e, err := Find(src, dst)
		if e.Mark != 0x3000005 || e.Near != src || e.Far != dst || e.Up < 1000 || e.Down < 40 || e.Down > 1000 || e.Ended || err != nil {
			t.Errorf("%+v, %v", e, err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.(*net.TCPConn).SetLinger(0) // which has not read what came
		s.Close()
		if e, err := Find(src, dst); !e.Ended || err != nil {
			t.Errorf("it is reset: %+v, %v", e, err)
		}
		for range 2 { // the second time it is gone
			if err := Delete(src, dst); err != nil {
				t.Error(err)
			}
		}
		if _, err := Find(src, dst); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is gone, and the error is %v", err)
		}
	}
}
