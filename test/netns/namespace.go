// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Namespace is another network namespace than the test's own.
type Namespace struct {
	handle netns.NsHandle
	// Links are the namespace's, of whoever asks.
	Links *netlink.Handle
}

// New makes a namespace with loopback, which is there as long as the test binary.
func New() (*Namespace, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer here.Close()
	n := new(Namespace)
	if n.handle, err = netns.New(); err != nil {
		return nil, err
	}
	n.Links, err = netlink.NewHandleAt(n.handle)
	if err == nil {
		err = netns.Set(here)
	}
	if err == nil {
		err = up(n.Links, "lo")
	}
	return n, err
}

// Do has f run in the namespace: sockets that it opens and programs that it
// starts belong there.
func (n *Namespace) Do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		return err
	}
	defer here.Close()
	if err := netns.Set(n.handle); err != nil {
		return err
	}
	defer netns.Set(here)
	return f()
}

// Line joins the test's own namespace, by a device of that name, with this one, in
// which it is NAME-far. Each end has addresses, with their prefixes.
func (n *Namespace) Line(name string, here, there []string) error {
	far := name + "-far"
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: far, PeerNamespace: netlink.NsFd(n.handle)}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	if err := up(&netlink.Handle{}, name, here...); err != nil {
		return err
	}
	if err := up(n.Links, far, there...); err != nil {
		return err
	}
	return running(name)
}

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
