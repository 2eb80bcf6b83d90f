// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	"bytes"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"braid/onpath/nflog"
	"braid/onpath/raw"
	"braid/onpath/segment"
)

const (
	// maxAsked is how many SYNs wait for their servers' answers. One that finds
	// no room is sent again by its client, to the listener.
	maxAsked = 4096
	// askedTimeout is how long they wait: a client sends its SYN again after one
	// second, and three.
	askedTimeout = 5 * time.Second
)

// flow is a connection as its client sees it.
type flow struct{ client, server netip.AddrPort }

// judge gives clients whose server has turned out to have no MPTCP to the
// listener: the filter has dropped the server's SYN+ACK, the server is reset, and
// the client's SYN, of which a copy was kept, comes by once more.
type judge struct {
	log  *nflog.Log
	back *raw.Sender // SYNs to the listener
	out  *raw.Sender // resets to servers, as if their clients had sent them: connection tracking is to see them

	asked map[flow]asked
	swept time.Time
	plain *atomic.Uint64
}

type asked struct {
	syn []byte
	at  time.Time
}

func openJudge(plain *atomic.Uint64) (_ *judge, err error) {
	j := &judge{asked: make(map[flow]asked), plain: plain}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.close())
		}
	}()
	if j.back, err = raw.Open(markTaken); err != nil {
		return nil, err
	}
	if j.out, err = raw.Open(0); err != nil {
		return nil, err
	}
	if j.log, err = nflog.Open(groupJudge, snapSYN); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *judge) serve() error {
	return j.log.Serve(func(packet []byte) { j.see(time.Now(), packet) })
}

// see takes a SYN, or a SYN+ACK that was dropped.
func (j *judge) see(now time.Time, packet []byte) {
	s, ok := segment.Parse(packet)
	switch {
	case !ok:
	case s.Flags&segment.ACK == 0:
		j.sweep(now)
		if len(j.asked) < maxAsked {
			j.asked[flow{s.Src, s.Dst}] = asked{bytes.Clone(packet), now}
		}
	default:
		f := flow{s.Dst, s.Src}
		// What cannot be sent is made up for by the client's next SYN, which the
		// filter takes.
		reset := segment.Segment{Src: f.client, Dst: f.server, Seq: s.Ack, Flags: segment.RST}
		_ = j.out.Send(reset.Build(), f.server.Addr())
		if a, ok := j.asked[f]; ok {
			delete(j.asked, f)
			segment.Sign(a.syn)
			_ = j.back.Send(a.syn, f.server.Addr())
		}
		j.plain.Add(1)
	}
}

// sweep forgets SYNs whose servers have answered with MPTCP, or not at all.
func (j *judge) sweep(now time.Time) {
	if now.Sub(j.swept) < askedTimeout/5 { // also where there is no room: who floods is not to cost a search for each SYN
		return
	}
	j.swept = now
	for f, a := range j.asked {
		if now.Sub(a.at) > askedTimeout {
			delete(j.asked, f)
		}
	}
}

func (j *judge) close() error {
	var errs []error
	if j.log != nil {
		errs = append(errs, j.log.Close())
	}
	for _, s := range []*raw.Sender{j.back, j.out} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
