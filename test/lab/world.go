// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"braid/test/link"
	"braid/test/tcpmem"
)

// A World is a running laboratory.
type World struct {
	Gateway, Core, Converter, Server *Node
	Hosts                            []*Node
	WANs                             []*WAN
	Providers                        []*Provider

	nodes    []*Node // in the order of creation
	links    map[string]*link.Link
	switches map[string]*Node
	services []io.Closer // of NAT64s and tunnels
	prefix   string      // of the namespaces' names
	veth     bool

	stop func() bool // the watch of the context
	once sync.Once
	err  error
}

// worlds counts those of this process.
var worlds atomic.Int64

// New makes a World, which takes about 0.1 s. It first removes what is left of the Worlds of
// processes that are gone, and has TCP of the machine have memory to go on with. The World is closed when ctx is done. It needs root: CAP_NET_ADMIN
// and CAP_SYS_ADMIN, /dev/net/tun, and the commands ip and nft.
func New(ctx context.Context, o Options) (*World, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the laboratory needs root, for network namespaces and TUN devices")
	}
	if err := sweep(); err != nil {
		return nil, err
	}
	if _, err := tcpmem.Room(ctx); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	w := &World{
		links:    make(map[string]*link.Link),
		switches: make(map[string]*Node),
		prefix:   fmt.Sprintf("%s%d-%d-", namePrefix, os.Getpid(), worlds.Add(1)),
		veth:     o.Veth,
	}
	if err := w.build(o); err != nil {
		return nil, errors.Join(fmt.Errorf("building laboratory: %w", err), w.remove())
	}
	w.stop = context.AfterFunc(ctx, func() { w.remove() })
	return w, nil
}

// Host is the first LAN host.
func (w *World) Host() *Node { return w.Hosts[0] }

// WAN returns the access network of that name, or nil.
func (w *World) WAN(name string) *WAN {
	for _, wan := range w.WANs {
		if wan.Name == name {
			return wan
		}
	}
	return nil
}

// Link returns the emulated link of the access network of that name, its AB direction up from
// the gateway; or for "server" that which Options.ServerDelay has put before the server; or nil.
func (w *World) Link(name string) *link.Link { return w.links[name] }

// Nodes are all of the World.
func (w *World) Nodes() []*Node { return w.nodes }

// Close ends all processes in the namespaces, and removes links and namespaces. A namespace
// lives on, nameless, while this process has a socket in it.
func (w *World) Close() error {
	w.stop()
	return w.remove()
}

func (w *World) remove() error {
	w.once.Do(func() {
		var errs []error
		var handles []int
		for _, n := range w.nodes {
			handles = append(handles, int(n.ns))
		}
		errs = append(errs, killInside(handles, time.Second))
		for _, s := range w.services {
			errs = append(errs, s.Close())
		}
		for _, l := range w.links {
			errs = append(errs, l.Close())
		}
		for _, n := range w.nodes {
			errs = append(errs, n.remove())
		}
		w.err = errors.Join(errs...)
	})
	return w.err
}
