// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"braid/transport/mptcp"
)

const (
	// openingSize is how much is read of a LAN host before a far side has
	// answered: about what TCP sends unasked (RFC 6928). The rest waits in the
	// kernel, so that any attempt can still be told everything.
	openingSize = 16 << 10
	// openingStart is the size of the first buffer: a TLS handshake fits in.
	openingStart = 2 << 10
)

// past is a deadline that ends what is under way.
var past = time.Unix(1, 0)

// opening is what a LAN host sends before it is known which far side it will
// have. Attempts are fed with it while it comes, and it is kept for the next
// one. A nil opening is that of a host which cannot send yet.
type opening struct {
	lan   *mptcp.Conn
	doneC chan struct{} // closed when nothing more is read

	mu   sync.Mutex
	more sync.Cond // buf has grown, or a feed is to stop
	buf  []byte
	err  error // the host has reset its connection
}

// listen begins to read what a LAN host sends; gone is called if it resets.
func listen(lan *mptcp.Conn, gone func(error)) *opening {
	o := &opening{lan: lan, doneC: make(chan struct{}), buf: make([]byte, 0, openingStart)}
	o.more.L = &o.mu
	go o.collect(gone)
	return o
}

func (o *opening) collect(gone func(error)) {
	defer close(o.doneC)
	buf := o.buf
	for len(buf) < openingSize {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(4*cap(buf), openingSize)), buf...)
		}
		n, err := o.lan.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		o.mu.Lock()
		o.buf = buf
		o.more.Broadcast()
		switch {
		case err == nil:
			o.mu.Unlock()
			continue
		case err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded):
			o.err = err
			defer gone(err)
		}
		o.mu.Unlock()
		return // an end of the stream is read again by the relay
	}
}

// feed writes the opening to a far side, as it comes, until stop is called,
// which tells how much of it has been written.
func (o *opening) feed(c *mptcp.Conn) (stop func() (sent int)) {
	if o == nil {
		return func() int { return 0 }
	}
	sent, stopped, doneC := 0, false, make(chan struct{})
	go func() {
		defer close(doneC)
		for {
			o.mu.Lock()
			for len(o.buf) == sent && !stopped {
				o.more.Wait()
			}
			b, end := o.buf[sent:], stopped
			o.mu.Unlock()
			if end {
				return
			}
			n, err := c.Write(b)
			if sent += n; err != nil {
				return // which reading from it will show as well
			}
		}
	}()
	return func() int {
		o.mu.Lock()
		stopped = true
		o.more.Broadcast()
		o.mu.Unlock()
		c.SetWriteDeadline(past)
		<-doneC
		c.SetWriteDeadline(time.Time{})
		return sent
	}
}

// settle ends the reading and hands over what has been read, or why the host
// is gone.
func (o *opening) settle() ([]byte, error) {
	o.lan.SetReadDeadline(past)
	<-o.doneC
	o.lan.SetReadDeadline(time.Time{})
	return o.buf, o.err
}
