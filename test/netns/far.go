// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// far is a network namespace with servers, 198.18.0.80 and 198.18.0.81, behind
// the device far0; 198.18.0.1 and 198.18.0.2 are the addresses of the test's
// own namespace towards them.
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
	if err := up(h, "far1", "198.18.0.80/24", "198.18.0.81/24"); err != nil {
		return 0, err
	}
	return ns, running("far0")
})

// running waits until a link carries something.
func running(name string) error {
	for range 1000 {
		l, err := netlink.LinkByName(name)
		if err != nil || l.Attrs().OperState == netlink.OperUp {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("%s does not come up", name)
}

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

// Far makes sure that there are servers in another namespace.
func Far(t testing.TB) {
	t.Helper()
	if _, err := far(); err != nil {
		t.Fatal(err)
	}
}

// ListenFar listens at a port of the server 198.18.0.80 until the test ends.
func ListenFar(t testing.TB, mptcp bool) net.Listener {
	t.Helper()
	Far(t)
	ns, _ := far()
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
	l, err := lc.Listen(context.Background(), "tcp", "198.18.0.80:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
