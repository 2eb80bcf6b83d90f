// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"braid/agent/path"
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

// opening is what a LAN host sends before it is known which far side it will
// have. Attempts are fed with it while it comes, and it is kept for the next
// one. The zero value is that of a host which cannot send yet.
type opening struct {
	lan    *mptcp.Conn
	search *search // ends if the host resets its connection

	mu   sync.Mutex
	more sync.Cond // it is not collected any more
	buf  []byte
	fed  [path.MaxAttempts]fed
	err  error // why the host is gone
	over bool  // nothing more is read
}

// fed is what an attempt's far side has got of it.
type fed struct {
	conn *mptcp.Conn // nil: none is fed
	sent int
}

// listen begins to read what a LAN host sends while a far side is searched for.
func (o *opening) listen(lan *mptcp.Conn, s *search) {
	o.lan, o.search, o.buf = lan, s, make([]byte, 0, openingStart)
	o.more.L = &o.mu
	go o.collect()
}

func (o *opening) collect() {
	buf := o.buf
	for over := false; !over; {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(4*cap(buf), openingSize)), buf...)
		}
		n, err := o.lan.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		over = o.collected(buf, err)
	}
}

// collected takes in what has been read so far, and says whether that is all. An
// end of the stream is read again by the relay.
func (o *opening) collected(buf []byte, err error) (over bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = buf
	for i := range o.fed {
		o.feedLocked(&o.fed[i])
	}
	if err != nil && err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) {
		o.err = err
		o.search.end(context.Canceled) // none of the server's words
	}
	if o.over = err != nil || len(buf) == openingSize; o.over {
		o.more.Broadcast()
	}
	return o.over
}

// feed has an attempt's far side get the opening as it comes, until stop.
func (o *opening) feed(attempt int, far *mptcp.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fed[attempt] = fed{conn: far}
	o.feedLocked(&o.fed[attempt])
}

// feedLocked writes what there is room for, as there is for an opening. Where there is
// none, because the system is short of memory, the relay has to wait for it, and
// reading from the far side shows what else has failed.
func (o *opening) feedLocked(f *fed) {
	if f.conn == nil || f.sent == len(o.buf) {
		return
	}
	n, err := f.conn.WriteNow(o.buf[f.sent:])
	f.sent += n
	if err != nil || f.sent < len(o.buf) {
		f.conn = nil
	}
}

// stop ends the feeding, and says how much has been written.
func (o *opening) stop(attempt int) (sent int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	sent = o.fed[attempt].sent
	o.fed[attempt] = fed{}
	return sent
}

// settle ends the reading and hands over what has been read, or why the host
// is gone.
func (o *opening) settle() ([]byte, error) {
	o.lan.SetReadDeadline(past)
	o.mu.Lock()
	for !o.over {
		o.more.Wait()
	}
	o.mu.Unlock()
	o.lan.SetReadDeadline(time.Time{})
	return o.buf, o.err
}
