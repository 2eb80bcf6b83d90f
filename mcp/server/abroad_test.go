// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// far is a network namespace with the servers of the tests, 198.18.0.80 and
// 198.18.0.81; 198.18.0.1 and 198.18.0.2 are this host's towards them.
var far = sync.OnceValues(func() (netns.NsHandle, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		return 0, err
	}
	ns, err := netns.New()
	if err != nil {
		return 0, err
	}
	h, err := netlink.NewHandleAt(ns)
	if err == nil {
		err = netns.Set(here)
	}
	if err != nil {
		return 0, err
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "far0"}, PeerName: "far1", PeerNamespace: netlink.NsFd(ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		return 0, err
	}
	if err := up(&netlink.Handle{}, "far0", "198.18.0.1/24", "198.18.0.2/24"); err != nil {
		return 0, err
	}
	return ns, up(h, "far1", "198.18.0.80/24", "198.18.0.81/24")
})

func up(h *netlink.Handle, name string, addrs ...string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err == nil {
			err = h.AddrAdd(l, addr)
		}
		if err != nil {
			return err
		}
	}
	return h.LinkSetUp(l)
}

func abroad(t testing.TB) netns.NsHandle {
	t.Helper()
	ns, err := far()
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// serve listens at a server.
func serve(t testing.TB, mptcp bool) net.Listener {
	t.Helper()
	ns := abroad(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err == nil {
		err = netns.Set(ns)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Set(here)
	var lc net.ListenConfig
	lc.SetMultipathTCP(mptcp)
	l, err := lc.Listen(t.Context(), "tcp", "198.18.0.80:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
