// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"time"
)

// Endless is a number of bytes for requests that end by Request.For.
const Endless = math.MaxInt64

// A Dial opens a connection to a Server.
type Dial func(ctx context.Context) (net.Conn, error)

// A Request is a transfer to be made.
type Request struct {
	Bytes int64
	// For ends the transfer after that time, as if it were complete; 0 is never.
	For time.Duration
	// Interval is the length of the report's intervals; 0 makes none.
	Interval time.Duration
	// StallFrom is the moment from which stalls count: those that end before it do not.
	StallFrom time.Duration
	// Live is called after each interval with what this side has received or, in an upload,
	// handed to the kernel.
	Live func(Interval)
}

// Do makes a transfer. The Report holds what there is to say even when there is an error, such
// as a wrong byte or an early end.
func (d Dial) Do(ctx context.Context, op Op, r Request) (Report, error) {
	start := time.Now()
	c, err := d(ctx)
	if err != nil {
		return Report{Mismatch: -1, Duration: time.Since(start)}, err
	}
	defer c.Close()
	connect := time.Since(start)
	// Past deadlines, not Close, so that what has arrived can still be read.
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()

	h := newHeader(op, r)
	report := Report{Mismatch: -1}
	switch op {
	case Download:
		report, err = download(c, h, start, r)
	case Upload:
		report, err = upload(c, h, start, r)
	case Echo:
		report, err = echo(c, h, start, r)
	default:
		err = fmt.Errorf("op %d is unknown", op)
	}
	report.Connect = connect
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	if report.Mismatch >= 0 {
		err = errors.Join(fmt.Errorf("wrong byte at offset %d: %s", report.Mismatch, report.Instead), err)
	}
	return report, err
}

func download(c net.Conn, h header, start time.Time, r Request) (Report, error) {
	if err := h.write(c); err != nil {
		return Report{Mismatch: -1}, err
	}
	if r.For > 0 {
		c.SetReadDeadline(start.Add(r.For))
	}
	m := newMeter(start, r)
	err := receive(c, position{phase: h.phase}, h.bytes, m)
	if r.For > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return m.end(true), nil
	}
	if err == nil {
		err = expectEOF(c)
	}
	return m.end(err != nil), err
}

func upload(c net.Conn, h header, start time.Time, r Request) (Report, error) {
	if err := h.write(c); err != nil {
		return Report{Mismatch: -1}, err
	}
	sent := newMeter(start, r)
	err := sendAll(c, h, start, r, sent.add)
	sent.end(err != nil)
	if err != nil {
		return Report{Mismatch: -1}, err
	}
	var report Report
	if err := json.NewDecoder(c).Decode(&report); err != nil {
		return Report{Mismatch: -1}, fmt.Errorf("reading the server's report: %w", err)
	}
	report.Duration = time.Since(start)
	if want := sent.bytes.Load(); report.Bytes != want {
		return report, fmt.Errorf("server has received %d of %d bytes", report.Bytes, want)
	}
	return report, nil
}

func echo(c net.Conn, h header, start time.Time, r Request) (Report, error) {
	if err := h.write(c); err != nil {
		return Report{Mismatch: -1}, err
	}
	var sent int64
	sendC := make(chan error, 1)
	go func() {
		err := sendAll(c, h, start, r, func(n int) { sent += int64(n) })
		if err != nil {
			c.SetReadDeadline(time.Unix(1, 0)) // nothing more will come
		}
		sendC <- err
	}()
	m := newMeter(start, r)
	err := receive(c, position{phase: h.phase}, h.bytes, m)
	if err == nil {
		err = expectEOF(c)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		c.SetWriteDeadline(time.Unix(1, 0)) // the sender would wait for ever
	}
	sendErr := <-sendC
	if sendErr == nil && errors.Is(err, io.EOF) && m.bytes.Load() == sent {
		err = nil // ended by For
	}
	return m.end(err != nil), errors.Join(sendErr, err)
}

// sendAll sends what the request says and closes that half of the connection.
func sendAll(c net.Conn, h header, start time.Time, r Request, progress func(int)) error {
	if r.For > 0 {
		c.SetWriteDeadline(start.Add(r.For))
	}
	err := send(c, position{phase: h.phase}, h.bytes, progress)
	if err != nil && !(r.For > 0 && errors.Is(err, os.ErrDeadlineExceeded)) {
		return err
	}
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("%T cannot close one half", c)
	}
	if err := half.CloseWrite(); err != nil {
		return fmt.Errorf("closing half: %w", err)
	}
	return nil
}

func expectEOF(c net.Conn) error {
	n, err := c.Read(make([]byte, 1))
	switch {
	case n > 0:
		return errors.New("data after the end")
	case errors.Is(err, io.EOF):
		return nil
	}
	return fmt.Errorf("reading the end: %w", err)
}

// A Peer is a connection as its server sees it.
type Peer struct {
	Remote, Local netip.AddrPort
	MPTCP         bool
}

// Identify asks the server whom it sees.
func (d Dial) Identify(ctx context.Context) (Peer, error) {
	c, err := d(ctx)
	if err != nil {
		return Peer{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	if err := newHeader(identify, Request{}).write(c); err != nil {
		return Peer{}, err
	}
	var p Peer
	if err := json.NewDecoder(c).Decode(&p); err != nil {
		return Peer{}, fmt.Errorf("reading peer: %w", err)
	}
	return p, nil
}

func seen(c net.Conn) Peer {
	p := Peer{Remote: addrPort(c.RemoteAddr()), Local: addrPort(c.LocalAddr())}
	if tcp, ok := c.(*net.TCPConn); ok {
		p.MPTCP, _ = tcp.MultipathTCP()
	}
	return p
}

// addrPort is a with v4-mapped addresses as IPv4.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
