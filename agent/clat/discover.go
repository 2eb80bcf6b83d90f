// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"time"

	"braid/agent/socket/ra"
	"braid/onpath/siit"
)

// Access is an IPv6 access network as far as the search for its NAT64 goes.
type Access struct {
	Device string
	// Prefix was given by configuration or bearer: nobody is asked.
	Prefix netip.Prefix
	// Servers are the network's own DNS servers.
	Servers []netip.Addr
}

// Origin says who told of a NAT64. Routers are believed before DNS
// (RFC 8781, 5.1).
type Origin string

// The origins.
const (
	OriginConfig Origin = "configuration"
	OriginRouter Origin = "router" // RFC 8781
	OriginDNS    Origin = "dns"    // RFC 7050
)

// NAT64 is that of an access network. The zero value is none.
type NAT64 struct {
	Prefix   netip.Prefix
	Lifetime time.Duration // from when it was told; 0: unlimited
	Origin   Origin
}

const (
	minLifetime = time.Minute
	// early is how long before the end what is known is asked for again
	// (RFC 7050, 3).
	early = 10 * time.Second
	// Between attempts when nobody answers, and when there is no NAT64.
	firstRetry = 10 * time.Second
	lastRetry  = 10 * time.Minute
)

// Finder looks for the NAT64 of an access network.
type Finder struct {
	access  Access
	routers *ra.Conn
	servers []net.Conn
}

// NewFinder opens sockets that are bound to the network's device. It needs
// CAP_NET_RAW.
func NewFinder(ctx context.Context, a Access) (*Finder, error) {
	f := &Finder{access: a}
	if a.Prefix.IsValid() {
		if err := siit.Check(a.Prefix); err != nil {
			return nil, fmt.Errorf("looking for NAT64: %w", err)
		}
		return f, nil
	}
	var err error
	if f.routers, err = ra.Open(ctx, a.Device); err != nil {
		return nil, fmt.Errorf("looking for NAT64: %w", err)
	}
	d := net.Dialer{Control: func(_, _ string, rc syscall.RawConn) error {
		var failed error
		err := rc.Control(func(fd uintptr) { failed = syscall.BindToDevice(int(fd), a.Device) })
		return errors.Join(err, failed)
	}}
	for _, s := range a.Servers {
		c, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(s, 53).String())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("looking for NAT64: asking DNS: %w", err), f.close())
		}
		f.servers = append(f.servers, c)
	}
	return f, nil
}

func (f *Finder) close() error {
	var errs []error
	if f.routers != nil {
		errs = append(errs, f.routers.Close())
	}
	for _, c := range f.servers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Discover asks until somebody tells of a NAT64 or ctx is done; the error is
// then the context's, and ErrNone if DNS has said that there is none.
func Discover(ctx context.Context, a Access) (NAT64, error) {
	f, err := NewFinder(ctx, a)
	if err != nil {
		return NAT64{}, err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var found NAT64
	last := f.Run(inner, func(n NAT64) {
		found = n
		cancel()
	})
	if found.Prefix.IsValid() {
		return found, nil
	}
	return NAT64{}, fmt.Errorf("looking for NAT64 on %s: %w", a.Device, errors.Join(ctx.Err(), last))
}

// heard is what somebody has told, and until when it holds.
type heard struct {
	NAT64
	until time.Time
}

func (h heard) holds(now time.Time) bool {
	return h.Prefix.IsValid() && now.Before(h.until)
}

// Run reports the NAT64 whenever its prefix is another one than before, from
// this goroutine, and keeps asking before what it knows expires. The zero
// NAT64 is reported when there is no longer one. It ends when ctx is done, and
// returns what DNS has answered last if that was an error.
func (f *Finder) Run(ctx context.Context, report func(NAT64)) error {
	defer f.close()
	if f.access.Prefix.IsValid() {
		report(NAT64{Prefix: f.access.Prefix.Masked(), Origin: OriginConfig})
		<-ctx.Done()
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	routerC, dnsC := make(chan NAT64), make(chan answer)
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		f.listen(ctx, routerC)
	}()
	defer func() {
		cancel()
		f.routers.Close()
		<-listening
	}()

	var router, dns heard
	var current netip.Prefix
	var last error
	retry := firstRetry
	solicit, ask := time.NewTimer(0), time.NewTimer(0)
	expire := time.NewTimer(time.Hour)
	for asked := 0; ; {
		select {
		case <-ctx.Done():
			return last
		case n := <-routerC:
			if n.Lifetime == 0 && n.Prefix != router.Prefix {
				break // another router's, which is not in use
			}
			router = heard{n, time.Now().Add(n.Lifetime)}
			solicit.Reset(max(n.Lifetime-early, firstRetry))
			asked = maxSolicitations - 1
		case a := <-dnsC:
			last = a.err
			if a.err == nil {
				dns = heard{a.NAT64, time.Now().Add(a.Lifetime)}
				retry = firstRetry
				ask.Reset(a.Lifetime - early)
				break
			}
			if errors.Is(a.err, ErrNone) {
				dns, retry = heard{}, lastRetry
			}
			ask.Reset(retry)
			retry = min(2*retry, lastRetry)
		case <-solicit.C:
			// The device may be without an address yet; there are further attempts.
			_ = f.routers.Solicit()
			if asked++; asked < maxSolicitations {
				solicit.Reset(solicitInterval)
			}
		case <-ask.C:
			if len(f.servers) > 0 {
				go f.ask(ctx, dnsC)
			}
		case <-expire.C:
		}
		now := time.Now()
		best := dns
		if router.holds(now) {
			best = router
		}
		if !best.holds(now) {
			best = heard{}
		} else {
			expire.Reset(best.until.Sub(now))
		}
		if best.Prefix != current {
			current = best.Prefix
			report(best.NAT64)
		}
	}
}

// RFC 4861, 10.
const (
	maxSolicitations = 3
	solicitInterval  = 4 * time.Second
)

// listen passes on what routers tell.
func (f *Finder) listen(ctx context.Context, toldC chan<- NAT64) {
	for {
		options, _, err := f.routers.Receive()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		n, ok := parsePREF64(options)
		if err != nil {
			ok = false
			time.Sleep(time.Second) // a device that went down says so more than once
		}
		if !ok {
			continue
		}
		select {
		case toldC <- n:
		case <-ctx.Done():
			return
		}
	}
}

// answer is that of DNS.
type answer struct {
	NAT64
	err error
}

// ask passes on what DNS tells.
func (f *Finder) ask(ctx context.Context, answerC chan<- answer) {
	n, err := f.resolve(ctx)
	select {
	case answerC <- answer{n, err}:
	case <-ctx.Done():
	}
}

// resolve asks the servers in turn, more patiently each time, until one tells of a
// prefix. The error is ErrNone if all have said that there is none: a server that
// somebody has configured beside the network's own does not know.
func (f *Finder) resolve(ctx context.Context) (NAT64, error) {
	var last error
	asked := f.servers
	for patience := time.Second; patience <= 4*time.Second && ctx.Err() == nil; patience *= 2 {
		var silent []net.Conn
		for _, c := range asked {
			n, err := exchange(c, patience)
			switch {
			case err == nil:
				return n, nil
			case !errors.Is(err, ErrNone):
				silent, last = append(silent, c), err
			}
		}
		if len(silent) == 0 {
			return NAT64{}, ErrNone
		}
		asked = silent
	}
	if last == nil {
		last = ctx.Err()
	}
	return NAT64{}, last
}

// exchange asks one server.
func exchange(c net.Conn, patience time.Duration) (NAT64, error) {
	id := uint16(rand.Uint32())
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return NAT64{}, err
	}
	if _, err := c.Write(question(id)); err != nil {
		return NAT64{}, err
	}
	var buf [1500]byte
	for {
		n, err := c.Read(buf[:])
		if err != nil {
			return NAT64{}, err
		}
		answer, err := parseAnswer(buf[:n], id)
		if !errors.Is(err, errDNS) {
			return answer, err
		}
	}
}
