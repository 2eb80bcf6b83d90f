// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// State tells whether a client is connected, and what ended or prevented the
// connection otherwise.
type State struct {
	Connected bool
	Err       error
}

// registrant is what a client has to tell every daemon it connects to.
type registrant interface {
	register(cn *conn) error
}

// Client is a connection to a ubus daemon that is made again whenever it
// breaks, with everything published, listened to and subscribed in place. Its
// methods may be called at any time from any goroutine.
type Client struct {
	path       string
	minBackoff time.Duration
	maxBackoff time.Duration

	readyC chan struct{}
	cancel context.CancelFunc // of Dial
	doneC  chan struct{}      // of Dial

	slotC    chan struct{} // handlers that run
	handlers atomic.Int64  // with those that wait
	wg       sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	state       State
	changedC    chan struct{}
	cn          *conn
	registrants []registrant
}

// NewClient returns a client for the daemon that listens at path. It connects
// once Run is called.
func NewClient(path string) *Client {
	return &Client{
		path:       path,
		minBackoff: 50 * time.Millisecond,
		maxBackoff: 5 * time.Second,
		readyC:     make(chan struct{}),
		slotC:      make(chan struct{}, maxRunning),
		state:      State{Err: errors.New("not yet connected")},
		changedC:   make(chan struct{}),
	}
}

// Dial connects to the daemon at path and runs the client until Close. Unlike
// Run it gives up when the first attempt fails.
func Dial(ctx context.Context, path string) (*Client, error) {
	c := NewClient(path)
	cn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	ctx, c.cancel = context.WithCancel(context.Background())
	c.doneC = make(chan struct{})
	go func() {
		defer close(c.doneC)
		c.run(ctx, cn)
	}()
	return c, nil
}

// Close ends a client that Dial made, and waits for its handlers.
func (c *Client) Close() error {
	c.cancel()
	<-c.doneC
	return nil
}

func (c *Client) String() string { return "ubus client at " + c.path }

// Ready is closed when the client is connected for the first time.
func (c *Client) Ready() <-chan struct{} { return c.readyC }

// State returns the state and a channel that is closed when it changes.
func (c *Client) State() (State, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.changedC
}

// Run connects, and connects again after 50 ms to 5 s whenever the connection
// breaks, until ctx ends. Then it waits for handlers that still run and returns
// nil. A client runs once.
func (c *Client) Run(ctx context.Context) error {
	return c.run(ctx, nil)
}

// run goes on from the connection cn, if there is one.
func (c *Client) run(ctx context.Context, cn *conn) error {
	wait := c.minBackoff
	for ctx.Err() == nil || cn != nil {
		if cn == nil {
			var err error
			if cn, err = c.connect(ctx); err != nil {
				c.setState(State{Err: err})
			}
		}
		if cn != nil {
			c.hold(ctx, cn)
			cn, wait = nil, c.minBackoff
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, c.maxBackoff)
	}
	c.setState(State{Err: net.ErrClosed})
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}

// hold waits for the end of a connection, or of ctx, which ends it.
func (c *Client) hold(ctx context.Context, cn *conn) {
	stop := context.AfterFunc(ctx, func() { cn.cancel(net.ErrClosed) })
	defer stop()
	c.disconnect(cn)
}

// connect returns a connection on which everything is registered.
func (c *Client) connect(ctx context.Context) (*conn, error) {
	cn, err := dial(ctx, c.path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { cn.cancel(ctx.Err()) })
	defer stop()
	c.mu.Lock()
	c.cn = cn
	rs := slices.Clone(c.registrants)
	c.mu.Unlock()
	for _, r := range rs {
		err := r.register(cn)
		if err == nil && !c.wants(r) { // removed meanwhile
			err = cn.removeObject(r)
		}
		if err != nil {
			cn.cancel(err)
			c.disconnect(cn)
			return nil, err
		}
	}
	c.setState(State{Connected: true})
	return cn, nil
}

func (c *Client) wants(r registrant) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.registrants, r)
}

// disconnect waits for the end of a connection and cleans up after it.
func (c *Client) disconnect(cn *conn) {
	<-cn.ctx.Done()
	c.mu.Lock()
	c.cn = nil
	c.setStateLocked(State{Err: context.Cause(cn.ctx)})
	c.mu.Unlock()
	cn.wg.Wait() // nothing is received any more
	cn.mu.Lock()
	defer cn.mu.Unlock()
	for _, r := range cn.objects {
		r.lost()
	}
}

func (c *Client) setState(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setStateLocked(s)
}

func (c *Client) setStateLocked(s State) {
	c.state = s
	close(c.changedC)
	c.changedC = make(chan struct{})
	if s.Connected {
		select {
		case <-c.readyC:
		default:
			close(c.readyC)
		}
	}
}

func (c *Client) conn() (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cn == nil {
		return nil, fmt.Errorf("%w: %w", ErrConnectionFailed, c.state.Err)
	}
	return c.cn, nil
}

// spawn runs f in a goroutine that Run waits for, unless Run is over.
func (c *Client) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Go(f)
	}
}
