// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Broker stands in for ubusd where there is none. It serves root and its own
// user, who may do everything: there are no access lists, and no monitor.
type Broker struct {
	path   string
	readyC chan struct{}
	wg     sync.WaitGroup

	mu       sync.Mutex
	peers    map[uint32]*peer
	objects  map[uint32]*object
	paths    map[string]*object
	types    map[uint32]*objectType
	eventSeq uint16
}

// NewBroker returns a broker that will listen at path.
func NewBroker(path string) *Broker {
	return &Broker{
		path:    path,
		readyC:  make(chan struct{}),
		peers:   map[uint32]*peer{},
		objects: map[uint32]*object{},
		paths:   map[string]*object{},
		types:   map[uint32]*objectType{},
	}
}

func (b *Broker) String() string { return "ubus broker at " + b.path }

// Ready is closed when the broker listens.
func (b *Broker) Ready() <-chan struct{} { return b.readyC }

// Run serves until ctx ends, and then closes all connections and returns nil. It
// makes the socket, its directory if need be, and takes the place of a socket
// nobody listens at. A broker runs once.
func (b *Broker) Run(ctx context.Context) error {
	ln, err := listen(b.path)
	if err != nil {
		return err
	}
	close(b.readyC)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	err = b.accept(ctx, ln)
	stop()
	ln.Close()
	b.mu.Lock()
	for _, p := range b.peers {
		p.close()
	}
	b.mu.Unlock()
	b.wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("accepting at %s: %w", b.path, err)
}

// listen makes the socket with the mode ubusd gives it, 0666: who may connect
// is decided by the peer's credentials.
func listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making a place for the socket: %w", err)
	}
	if nc, err := net.Dial("unix", path); err == nil {
		nc.Close()
		return nil, fmt.Errorf("listening at %s: %w", path, syscall.EADDRINUSE)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if fi, serr := os.Lstat(path); serr == nil && fi.Mode().Type() == os.ModeSocket {
			os.Remove(path)
		}
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		ln.Close()
		return nil, fmt.Errorf("opening the socket to clients: %w", err)
	}
	return ln, nil
}

func (b *Broker) accept(ctx context.Context, ln *net.UnixListener) error {
	for {
		nc, err := ln.AcceptUnix()
		switch {
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE),
			errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
			select { // until somebody lets go of something
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		case errors.Is(err, syscall.ECONNABORTED):
		case err != nil:
			return err
		default:
			if uid, err := peerUID(nc); err != nil || uid != 0 && int(uid) != os.Geteuid() {
				nc.Close()
				continue
			}
			b.serve(nc)
		}
	}
}

// serve starts a peer with its hello.
func (b *Broker) serve(nc net.Conn) {
	p := &peer{nc: nc, wakeC: make(chan struct{}, 1), closedC: make(chan struct{}), objects: map[uint32]*object{}}
	b.mu.Lock()
	p.id = newID(b.peers)
	b.peers[p.id] = p
	p.send(message{kind: kindHello, peer: p.id})
	b.mu.Unlock()
	b.wg.Go(p.write)
	b.wg.Go(func() {
		p.read(func(m message) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.handleLocked(p, m)
		})
		p.close()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, o := range p.objects {
			b.freeLocked(o)
		}
		delete(b.peers, p.id)
	})
}

// newID picks an id that is free and not one of the daemon's.
func newID[T any](taken map[uint32]T) uint32 {
	for {
		id := rand.Uint32()
		if _, ok := taken[id]; id >= systemObjects && !ok {
			return id
		}
	}
}
