// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package traffic measures connections: rates, stalls, latency and loss, with every byte that
// arrives compared with the one that was sent.
//
// A client opens a connection, writes a header that says what it wants, and the server serves
// it. The payload is a pseudo-random pattern that depends on the position in the stream and on
// the connection. Nothing here knows of namespaces: callers bring listeners and dialers.
package traffic

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A Server serves the clients of one listener.
type Server struct {
	l  net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

// Serve starts a server on l, which it closes in the end.
func Serve(l net.Listener) *Server {
	s := &Server{l: l, conns: make(map[net.Conn]bool)}
	s.wg.Go(s.accept)
	return s
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.l.Addr() }

// Close closes the listener and all connections, and waits for their end.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	err := s.l.Close()
	s.wg.Wait()
	return err
}

func (s *Server) accept() {
	for {
		c, err := s.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		if !s.track(c) {
			c.Close()
			return
		}
		s.wg.Go(func() {
			defer s.forget(c)
			// A client that breaks off is none of the server's errors: it knows itself.
			serve(c)
		})
	}
}

func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = true
	return !s.closed
}

func (s *Server) forget(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	c.Close()
}

func serve(c net.Conn) error {
	start := time.Now()
	h, err := readHeader(c)
	if err != nil {
		return err
	}
	switch h.op {
	case Download:
		return send(c, position{phase: h.phase}, h.bytes, nil)
	case Upload:
		m := newMeter(start, Request{Interval: h.interval, StallFrom: h.stallFrom})
		err := receive(c, position{phase: h.phase}, h.bytes, m)
		report := m.end(err != nil)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return json.NewEncoder(c).Encode(report)
	case Echo:
		_, err := io.Copy(c, c)
		return err
	case identify:
		return json.NewEncoder(c).Encode(seen(c))
	}
	return fmt.Errorf("op %d is unknown", h.op)
}

// send writes n bytes from p on, and tells progress how many at a time.
func send(w io.Writer, p position, n int64, progress func(int)) error {
	for p.offset < n {
		k, err := w.Write(p.rest(n - p.offset))
		p.offset += int64(k)
		if progress != nil {
			progress(k)
		}
		if err != nil {
			return fmt.Errorf("writing at %d of %d: %w", p.offset, n, err)
		}
	}
	return nil
}

// buffers for receive.
var buffers = sync.Pool{New: func() any { return new([chunk]byte) }}

// receive reads n bytes from p on. The first wrong byte is noted in the report, and the rest
// still read. The error is io.EOF when the stream ends before.
func receive(r io.Reader, p position, n int64, m *meter) error {
	buf := buffers.Get().(*[chunk]byte)
	defer buffers.Put(buf)
	for p.offset < n {
		k, err := r.Read(buf[:min(chunk, n-p.offset)])
		if k > 0 {
			m.add(k)
			if i := p.check(buf[:k]); i >= 0 && m.report.Mismatch < 0 {
				m.report.Mismatch = p.offset + int64(i)
				m.report.Instead = position{p.phase, m.report.Mismatch}.instead(buf[i:k])
			}
			p.offset += int64(k)
		}
		if err != nil {
			return fmt.Errorf("reading at %d of %d: %w", p.offset, n, err)
		}
	}
	return nil
}
