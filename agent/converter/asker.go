// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package converter

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"braid/agent/path"
	"braid/transport/convert"
	"braid/transport/proof"
)

// patience is how long Try asks by one way alone.
const patience = time.Second

// asker asks a converter by one of its ways.
type asker struct {
	m      *Monitor
	name   string
	way    path.Way
	key    string        // or
	cookie string        // it knows us by
	askC   chan struct{} // look again when to ask
	plain  atomic.Bool   // it does not know convert.Families

	// Under the monitor's lock.
	stop      context.CancelFunc // nil: does not run yet
	asking    bool               // now, or as soon as may be
	began     time.Time          // when it was asked last
	heard     time.Time          // when it last answered
	failing   time.Time          // since when it does not, or not by MPTCP; zero: it does
	suspected bool               // it has not, and whether others have is not known yet
	answer    path.Answer
	err       error // of the last question
}

func (a *asker) run(ctx context.Context) {
	for {
		wait := a.wait()
		if wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-a.askC:
			case <-time.After(wait):
			}
			continue
		}
		s, err := a.askWithin(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !isAnswer(err) {
			a.plain.Store(false) // it may come back as another version
		}
		a.m.mu.Lock()
		if p := a.m.peers[a.name]; p != nil && p.askers[a.way] == a {
			a.m.noteLocked(p, a, s, err)
		}
		a.m.mu.Unlock()
	}
}

// wait is how long not to ask yet; if 0, it is being asked.
func (a *asker) wait() time.Duration {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	p := a.m.peers[a.name]
	if p == nil || p.askers[a.way] != a {
		return never // ctx is about to end
	}
	if !a.asking {
		if wait := a.m.intervalLocked(p, a) - time.Since(a.began); wait > 0 {
			return wait
		}
	}
	a.asking, a.began = true, time.Now()
	return 0
}

// ask has it asked now, under the monitor's lock.
func (a *asker) ask() {
	a.asking = true
	wake(a.askC)
}

// end ends it, under the monitor's lock.
func (a *asker) end() {
	if a.stop != nil {
		a.stop()
	}
}

// set changes what is known, under the monitor's lock.
func (a *asker) set(now path.Answer) {
	now.At = time.Now()
	old := a.answer
	a.answer = now
	if old.State == now.State && old.MPTCP == now.MPTCP {
		return
	}
	a.m.log.Info("converter", "name", a.name, "wan", a.way.WAN, "source", a.way.Source, "peer", a.way.Peer, "state", now.State, "mptcp", now.MPTCP, "rtt", now.RTT, "error", a.err)
	wake(a.m.changedC)
	wake(a.askC)
}

// reckon has all ways look again when to ask, under the monitor's lock.
func (p *peer) reckon() {
	for _, a := range p.askers {
		wake(a.askC)
	}
}

// fullFor is how long a converter that says it is full wants to be left alone;
// 0 for any other error.
func fullFor(err error) time.Duration {
	var e convert.Error
	if errors.As(err, &e) && e.Code == convert.ResourceExceeded {
		return e.RetryAfter()
	}
	return 0
}

// backoff doubles the delay of a converter that is full again soon after.
type backoff struct {
	end    time.Time
	lasted time.Duration
}

func (b *backoff) next(delay time.Duration) time.Duration {
	if time.Since(b.end) < b.lasted {
		delay = max(delay, min(2*b.lasted, fullMax))
	}
	b.lasted, b.end = delay, time.Now().Add(delay)
	return delay
}

// hold is for one that still is full when it is asked.
func (b *backoff) hold(delay time.Duration) { b.lasted, b.end = delay, time.Now().Add(delay) }

// isAnswer says whether an error is a converter's own word.
func isAnswer(err error) bool { return errors.As(err, new(convert.Error)) }

// outcome is what an answer, or that there is none, says of a converter.
func outcome(answer Status, err error) Status {
	answer.Err = err
	switch {
	case err == nil:
		answer.State = path.ConverterUp
	case fullFor(err) > 0:
		answer.State = path.ConverterFull
	case errors.As(err, new(convert.Error)):
		answer.State = path.ConverterRefused
	default:
		answer.State = path.ConverterDown
	}
	return answer
}

// Try asks a converter once, whether it is one of the targets or not: by its
// first way and, if there is no answer within a second, by the next one as well.
// Since is not set.
func (m *Monitor) Try(ctx context.Context, t Target) Status {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answerC := make(chan Status, len(t.Ways))
	left, running := t.Ways, 0
	next := func() {
		if len(left) == 0 {
			return
		}
		a := &asker{m: m, name: t.Name, way: left[0].Way, key: t.Key, cookie: t.Cookie}
		left = left[1:]
		running++
		go func() { answerC <- outcome(a.askOver(ctx, a.way)) }()
	}
	next()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	worst := Status{State: path.ConverterDown}
	for running > 0 {
		select {
		case <-timer.C:
			next()
		case s := <-answerC:
			running--
			if s.State == path.ConverterUp || s.State == path.ConverterFull {
				return s
			}
			if worst.Err == nil || s.State == path.ConverterRefused {
				worst = s
			}
			next()
		}
	}
	return worst
}

// askWithin asks for askTimeout at most.
func (a *asker) askWithin(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return a.askOver(ctx, a.way)
}

// askOver asks over one way; for the address families, too, unless the
// converter turns out not to know that question.
func (a *asker) askOver(ctx context.Context, w path.Way) (Status, error) {
	plain := a.plain.Load()
	s, err := a.askOnce(ctx, w, plain)
	if plain || fullFor(err) > 0 || !errors.As(err, new(convert.Error)) {
		return s, err
	}
	s, again := a.askOnce(ctx, w, true)
	if again != nil {
		return s, err
	}
	a.plain.Store(true)
	return s, nil
}

// askOnce makes one connection and has the converter say what it can do.
func (a *asker) askOnce(ctx context.Context, w path.Way, plain bool) (s Status, err error) {
	m := convert.Message{TLVs: []convert.TLV{convert.Info{}}}
	if !plain {
		m.TLVs = append(m.TLVs, convert.Families{})
	}
	credentials := proof.Credentials{Converter: a.name, Key: []byte(a.key), Cookie: []byte(a.cookie)}
	var request proof.Request
	began := time.Now()
	c, err := a.m.dialer.DialEach(ctx, 0, w.Source, w.Peer, func() (_ []byte, err error) {
		request, err = a.m.wallet.Request(credentials, m)
		return request.Bytes, err
	})
	if err != nil {
		return s, err
	}
	defer c.Close()
	s = Status{State: path.ConverterUp, RTT: time.Since(began), mptcp: c.MPTCP}
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	b, err := convert.Receive(c)
	if err == nil {
		err = request.Hear(b)
	}
	var answer convert.Message
	if err == nil {
		answer, _, err = convert.Parse(b)
	}
	if err != nil {
		return s, fmt.Errorf("asking converter %s: %w", a.name, err)
	}
	if f, ok := convert.Find[convert.Families](answer); ok {
		s.IPv4, s.IPv6 = path.TriOf(f.IPv4), path.TriOf(f.IPv6)
	}
	if refused, ok := convert.Find[convert.Error](answer); ok { // beside the rest: it is full
		return s, refused
	}
	return s, nil
}
