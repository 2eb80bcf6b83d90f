// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package onpath is the converter that nobody addresses: it stands as a router
// on its clients' path. Connections to servers that speak MPTCP it forwards, and
// lends them an IPv6 address for lines that have no IPv4; those to other servers
// it converts. See docs/onpath.md.
package onpath

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"braid/mcp/config"
	"braid/onpath/conntrack"
	"braid/onpath/lend"
	"braid/onpath/nft"
	"braid/onpath/tproxy"
	"braid/transport/journal"
	"braid/transport/mptcp"
)

const (
	// beat is how often the packet filter hears that the process lives, which it
	// believes for faith: who is hung holds up new connections to known servers
	// for as long.
	beat  = 100 * time.Millisecond
	faith = time.Second
	// glance is how often it looks after the rest.
	glance = time.Second
	// lentID is the lent address's at clients: none that a server would use.
	lentID = 206
	// connections is how many forwarded ones are remembered, some 800 bytes each.
	connections = 65536
)

// OnPath is a converter on the path.
type OnPath struct {
	Log  *journal.Log
	Most int // connections that are converted at a time; beyond, servers are left as they are

	sessions            *sessions
	clients             clients
	plain               atomic.Uint64                // answers of servers without MPTCP
	translated, dropped atomic.Uint64                // packets
	prefix              atomic.Pointer[netip.Prefix] // that is lent; nil: none

	mu       sync.Mutex
	now      config.OnPath // what holds; without interfaces: nothing
	placed   bool          // something of ours is in the kernel
	handed   bool          // to a successor, what is in the kernel
	listener *tproxy.Listener
	heart    *tproxy.Heart
	alive    atomic.Pointer[tproxy.Heart] // that beats: the rules are in place
	aliveC   chan struct{}                // receives when there is one
	edge     *edge
	judge    *judge
	lent     *lending // to connections that are forwarded
	own      *lending // to those that are converted
	sets     *nft.Elements
	print    uint64 // of the filter's tables, as they were made
	serving  sync.WaitGroup
	hearing  sync.WaitGroup // the judge and the lenders
}

// New makes a converter that does nothing yet.
func New(log *journal.Log, most int) *OnPath {
	return &OnPath{Log: log, Most: most, aliveC: make(chan struct{}, 1), sessions: newSessions(log), clients: clients{seen: make(map[netip.Addr]habit)}}
}

// tables are the packet filter's.
var tables = []string{table, "ip braid_mcp", "ip6 braid_mcp"}

// Sweep removes what one that was killed has left.
func Sweep() error {
	return errors.Join(release(), refuseJoins(), sweepTables())
}

func sweepTables() error {
	var errs []error
	for _, t := range tables {
		_, err := nft.Run(context.Background(), "", append([]string{"delete", "table"}, strings.Fields(t)...)...)
		if err != nil && !nft.Absent(err) && !errors.Is(err, exec.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Apply makes a configuration hold; nil: none. Connections that are converted
// stay open. After an error nothing holds.
func (o *OnPath) Apply(ctx context.Context, want *config.OnPath) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case want == nil && o.listener == nil, want != nil && want.Equal(o.now):
		return nil
	case want == nil:
		return o.stopLocked(ctx)
	}
	if err := o.startLocked(ctx, *want); err != nil {
		return errors.Join(fmt.Errorf("standing on the path: %w", err), o.stopLocked(ctx))
	}
	for _, w := range unfit() {
		o.Log.Warn("on the path", "problem", w)
	}
	o.Log.Info("on the path", "interfaces", want.Interfaces, "clients", want.Clients, "lend", want.Lend)
	return nil
}

func (o *OnPath) startLocked(ctx context.Context, want config.OnPath) (err error) {
	o.clients.set(want.LendTo)
	if o.listener == nil {
		if err := o.openLocked(ctx); err != nil {
			return err
		}
	}
	// Before anything is changed: of two only one can listen.
	if o.judge == nil {
		if err := o.listenLocked(); err != nil {
			return err
		}
	}
	o.placed = true
	if want.Lend != o.now.Lend {
		if err := o.lendLocked(want.Lend); err != nil {
			return err
		}
	}
	o.now = want
	if err := errors.Join(o.filterLocked(ctx), catch()); err != nil {
		return err
	}
	o.alive.Store(o.heart)
	select {
	case o.aliveC <- struct{}{}:
	default:
	}
	return o.heart.Beat()
}

// openLocked opens what does not depend on the configuration.
func (o *OnPath) openLocked(ctx context.Context) (err error) {
	if o.heart, err = tproxy.NewHeart(markHeart); err != nil {
		return err
	}
	l, err := tproxy.ListenMultipath(markOurs)
	if err != nil {
		return err
	}
	if err := l.Each((*mptcp.Listener).AcceptLines); err != nil {
		l.Close()
		return err
	}
	o.listener = l
	work := context.WithoutCancel(ctx)
	o.serving.Go(func() {
		err := l.Serve(func(c *mptcp.Conn, _ int) { o.sessions.accept(work, c) })
		if err != nil {
			o.Log.Error("accepting", "error", err)
		}
	})
	return nil
}

// lendLocked lends another prefix, or none.
func (o *OnPath) lendLocked(prefix netip.Prefix) (err error) {
	if o.edge != nil {
		o.prefix.Store(nil)
		err = errors.Join(refuseJoins(), o.edge.close())
		o.edge = nil
	}
	if err != nil || !prefix.IsValid() {
		return err
	}
	if o.edge, err = openEdge(o.Log, prefix, &o.translated, &o.dropped); err != nil {
		return err
	}
	e := o.edge
	o.serving.Go(func() { e.run(o.Log) })
	o.prefix.Store(&prefix)
	return takeJoins(prefix)
}

// filterLocked puts the rules in place for what holds.
func (o *OnPath) filterLocked(ctx context.Context) (err error) {
	s := state{OnPath: o.now, port: o.listener.Ports()[0]}
	if o.edge != nil {
		s.tun = o.edge.device.Name()
	}
	if _, err = nft.Run(ctx, s.text(), "-f", "-"); err != nil {
		// Another version may have left sets of other types.
		if err = sweepTables(); err == nil {
			_, err = nft.Run(ctx, s.text(), "-f", "-")
		}
	}
	if err != nil {
		return err
	}
	o.print, err = nft.Fingerprint(tables...)
	return err
}

// listenLocked begins to listen to the packet filter.
func (o *OnPath) listenLocked() (err error) {
	if o.sets, err = nft.OpenElements(table); err != nil {
		return err
	}
	if o.judge, err = openJudge(&o.plain); err != nil {
		return err
	}
	o.lent = &lending{clients: &o.clients, address: o.lentAddress, opened: o.letJoin, closed: o.noJoin, ask: tracked}
	if err = o.lent.open(nameLent, groupLent); err != nil {
		return err
	}
	o.own = &lending{clients: &o.clients, address: o.ownAddress, ask: o.sessions.ask}
	if err = o.own.open(nameOwn, groupOwn); err != nil {
		return err
	}
	for _, serve := range []func() error{o.judge.serve, o.lent.Serve, o.own.Serve} {
		o.hearing.Go(func() {
			if err := serve(); err != nil {
				o.Log.Error("listening to the packet filter", "error", err)
			}
		})
	}
	return nil
}

// lentAddress is that of a forwarded connection's server.
func (o *OnPath) lentAddress(c *lend.Connection) (lend.Address, bool) {
	prefix, server := o.prefix.Load(), c.First.Server.Addr()
	if prefix == nil || !server.Is4() {
		return lend.Address{}, false
	}
	return lend.Address{ID: lentID, Addr: netip.AddrPortFrom(embed(*prefix, server), 0)}, true
}

// ownAddress is where joins to converted connections are taken.
func (o *OnPath) ownAddress(c *lend.Connection) (lend.Address, bool) {
	prefix := o.prefix.Load()
	if prefix == nil || !c.First.Server.Addr().Is4() {
		return lend.Address{}, false
	}
	return lend.Address{ID: ownID, Addr: netip.AddrPortFrom(embed(*prefix, own4), ownPort)}, true
}

// tracked is what connection tracking knows of a flow that is forwarded. A firewall
// may have it look away.
func tracked(_ *lend.Connection, f lend.Flow) lend.Knowledge {
	switch e, err := conntrack.Find(f.Client, f.Server); {
	case err != nil:
		return lend.Unknown
	case e.Ended:
		return lend.Ended
	default:
		return lend.Open
	}
}

// letJoin has the packet filter let through the joins to a connection.
func (o *OnPath) letJoin(c *lend.Connection, a lend.Address) {
	if err := o.sets.Add("tokens", tokenKey(c, a), 0); err != nil {
		o.Log.Debug("letting joins through", "error", err)
	}
}

func (o *OnPath) noJoin(c *lend.Connection, a lend.Address) {
	_ = o.sets.Delete("tokens", tokenKey(c, a))
}

func tokenKey(c *lend.Connection, a lend.Address) []byte {
	return binary.BigEndian.AppendUint32(a.Addr.Addr().AsSlice(), c.Token)
}

// stopLocked takes the converter off the path. What is converted stays as long as
// it is open.
func (o *OnPath) stopLocked(ctx context.Context) error {
	o.alive.Store(nil)
	var errs []error
	if o.judge != nil {
		errs = append(errs, o.judge.close())
	}
	for _, l := range []*lending{o.lent, o.own} {
		if l != nil && l.Lender != nil {
			errs = append(errs, l.Close())
		}
	}
	o.hearing.Wait() // what they were told of last changes the sets
	if o.sets != nil {
		errs = append(errs, o.sets.Close())
	}
	o.judge, o.lent, o.own, o.sets = nil, nil, nil, nil
	if o.handed {
		if o.edge != nil {
			errs = append(errs, o.edge.close())
			o.edge = nil
		}
		return errors.Join(errs...)
	}
	if o.placed {
		errs = append(errs, o.lendLocked(netip.Prefix{}))
	}
	if o.sessions.count() > 0 && o.listener != nil && len(o.now.Interfaces) > 0 {
		o.now = config.OnPath{Interfaces: o.now.Interfaces}
		return errors.Join(append(errs, o.filterLocked(ctx))...)
	}
	o.now = config.OnPath{}
	if o.listener == nil && o.heart == nil {
		return errors.Join(errs...)
	}
	if o.listener != nil {
		errs = append(errs, o.listener.Close())
	}
	errs = append(errs, o.heart.Close())
	o.listener, o.heart = nil, nil
	if o.placed {
		o.placed = false
		errs = append(errs, Sweep())
	}
	return errors.Join(errs...)
}

// HandOver leaves what is in the kernel to a successor, which has to begin after
// that.
func (o *OnPath) HandOver() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handed = true
	if err := o.stopLocked(context.Background()); err != nil {
		o.Log.Warn("handing over", "error", err)
	}
}

// Run keeps it alive until ctx ends. What is converted then may end by itself
// until halt ends; the rest is reset.
func (o *OnPath) Run(ctx, halt context.Context) {
	work, stop := context.WithCancel(context.Background())
	o.serving.Go(func() { o.sessions.guard.Run(work) })
	o.serving.Go(func() { o.pulse(ctx) })
	ticker := time.NewTicker(glance)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-ticker.C:
			o.look(ctx, now)
		}
	}
	o.mu.Lock()
	err := o.stopLocked(work)
	o.mu.Unlock()
	o.sessions.end(halt)
	o.mu.Lock()
	err = errors.Join(err, o.stopLocked(work))
	if l := o.listener; l != nil { // after handing over
		err = errors.Join(err, l.Close(), o.heart.Close())
	}
	o.mu.Unlock()
	if err != nil {
		o.Log.Warn("leaving the path", "error", err)
	}
	stop()
	o.serving.Wait()
}

// pulse tells the packet filter to go on until ctx ends, whatever else takes its
// time.
func (o *OnPath) pulse(ctx context.Context) {
	failing := false
	for {
		var timeC <-chan time.Time // off the path nothing is to be woken for
		if o.alive.Load() != nil {
			timeC = time.After(beat)
		}
		select {
		case <-ctx.Done():
			return
		case <-o.aliveC:
			continue
		case <-timeC:
		}
		h := o.alive.Load()
		if h == nil || o.sessions.count() >= o.Most {
			continue
		}
		err := h.Beat()
		if err != nil && !failing && o.alive.Load() == h {
			o.Log.Warn("telling the packet filter to go on", "error", err)
		}
		failing = err != nil
	}
}

// look is what is done each second.
func (o *OnPath) look(ctx context.Context, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.handed, len(o.now.Interfaces) == 0:
		return
	case o.judge == nil: // off the path, but for what was open
		if o.sessions.count() == 0 {
			if err := o.stopLocked(ctx); err != nil {
				o.Log.Warn("leaving the path", "error", err)
			}
		}
		return
	}
	o.lent.look(now)
	o.own.look(now)
	if o.edge != nil && o.edge.over.Load() { // somebody has taken its device away
		err := o.lendLocked(o.now.Lend)
		if err == nil {
			err = o.filterLocked(ctx)
		}
		if err != nil {
			o.Log.Warn("lending addresses anew", "error", err)
		}
	}
	if print, err := nft.Fingerprint(tables...); err == nil && print != o.print {
		o.Log.Warn("somebody has changed the packet filter's table", "table", table)
		if err := o.filterLocked(ctx); err != nil {
			o.Log.Warn("putting rules in place", "error", err)
		}
	}
}
