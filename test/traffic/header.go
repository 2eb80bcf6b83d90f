// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// An Op is what a client asks of the server.
type Op uint8

const (
	Download Op = iota + 1 // the server sends
	Upload                 // the server receives and reports
	Echo                   // the server sends back what it receives
	identify               // the server says whom it sees
)

const (
	headerLen = 40
	magic     = 0x62725431 // "brT1"
)

// A header opens each connection: magic, op, interval in ns, bytes, phase,
// the moment from which stalls count in ns; big endian.
type header struct {
	op        Op
	interval  time.Duration
	bytes     int64
	phase     uint64
	stallFrom time.Duration
}

func newHeader(op Op, r Request) header {
	return header{op: op, interval: r.Interval, bytes: r.Bytes, phase: rand.Uint64N(period), stallFrom: r.StallFrom}
}

func (h header) write(w io.Writer) error {
	var b [headerLen]byte
	binary.BigEndian.PutUint32(b[0:], magic)
	b[4] = byte(h.op)
	binary.BigEndian.PutUint64(b[8:], uint64(h.interval))
	binary.BigEndian.PutUint64(b[16:], uint64(h.bytes))
	binary.BigEndian.PutUint64(b[24:], h.phase)
	binary.BigEndian.PutUint64(b[32:], uint64(h.stallFrom))
	if _, err := w.Write(b[:]); err != nil {
		return fmt.Errorf("writing header: %w", err)
	}
	return nil
}

func readHeader(r io.Reader) (header, error) {
	var b [headerLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return header{}, fmt.Errorf("reading header: %w", err)
	}
	h := header{
		op:        Op(b[4]),
		interval:  time.Duration(binary.BigEndian.Uint64(b[8:])),
		bytes:     int64(binary.BigEndian.Uint64(b[16:])),
		phase:     binary.BigEndian.Uint64(b[24:]),
		stallFrom: time.Duration(binary.BigEndian.Uint64(b[32:])),
	}
	if binary.BigEndian.Uint32(b[0:]) != magic || h.bytes < 0 || h.interval < 0 || h.stallFrom < 0 || h.phase >= period {
		return header{}, errors.New("reading header: not one of this protocol")
	}
	return h, nil
}
