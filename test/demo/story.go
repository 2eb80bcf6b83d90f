// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
)

// The house's lines: rate and one-way delay. Their queues hold 100 ms.
var (
	fixed    = link.Spec{Rate: 50e6, Delay: 10 * time.Millisecond, Queue: 100 * time.Millisecond}
	cellular = link.Spec{Rate: 20e6, Delay: 30 * time.Millisecond, Queue: 100 * time.Millisecond}
	house    = lab.Options{
		Accesses: []lab.Access{lab.Fibre(fixed, fixed), lab.LTE(cellular, cellular)},
		// The server is not in the converter's rack. There, microseconds away, BBR of a server whose
		// receiver holds it back takes that for the rate of the path, and sends next to nothing for
		// half a minute (kernel 6.18).
		ServerDelay: 5 * time.Millisecond,
	}
)

// size of the download that braid carries: enough for all of the story.
const size = 240e6

// How long each part of the story takes; the last one ends with the download.
const (
	aloneTime  = 6 * time.Second
	bondTime   = 12 * time.Second
	pulledTime = 6 * time.Second
	backTime   = 8 * time.Second
	holeTime   = 8 * time.Second
	lastTime   = 35 * time.Second
)

// story is told in parts, each of which prints a line a second.
type story struct {
	rig *rig.Rig
	out *screen

	back, again rates // at the end of the parts in which the fixed line returns
	lost        error // what the download that braid carries ended with
}

func (s *story) tell(ctx context.Context) (r result, err error) {
	s.out.say("A house with two lines: a fixed one of 50 Mbit/s, 10 ms away, and a cellular one of 20 Mbit/s,\n" +
		"30 ms away. A computer in it downloads, and compares every byte with the one that was sent.")

	s.out.part("The fixed line alone: a plain TCP download, without braid.")
	if r.Fixed, err = s.alone(ctx); err != nil {
		return r, err
	}
	s.out.part("The cellular line alone, without braid.")
	server, lte := lab.Server4, s.rig.WAN("lte")
	if _, err := s.rig.Gateway.Run(fmt.Sprintf("ip route add %v via %v dev lte", server, lte.Router4)); err != nil {
		return r, err
	}
	if r.Cellular, err = s.alone(ctx); err != nil {
		return r, err
	}
	if _, err := s.rig.Gateway.Run(fmt.Sprintf("ip route del %v", server)); err != nil {
		return r, err
	}

	if err := errors.Join(s.rig.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"), s.rig.StartAgent()); err != nil {
		return r, err
	}
	d := start(ctx, s.rig.FromHost(server), size, 0)
	defer d.stop()

	s.out.part("braid runs now, on the gateway and at the far end: one download over both lines.")
	seconds := s.follow(ctx, d, bondTime)
	r.Bond = settled(seconds)
	r.Aggregate = r.Bond / capacity
	if err := s.carried(); err != nil {
		return r, err
	}

	s.out.part("The fixed line is pulled: its device goes down. The same download goes on.")
	fibre, line := s.rig.WAN("fibre"), s.rig.Link("fibre")
	d.stall()
	if err := fibre.SetDown(); err != nil {
		return r, err
	}
	s.follow(ctx, d, pulledTime)
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	r.StallDown = s.stood(d)

	s.out.part("The fixed line is plugged in again.")
	if err := fibre.SetUp(); err != nil {
		return r, err
	}
	s.back = last(s.follow(ctx, d, backTime))
	if ctx.Err() != nil {
		return r, ctx.Err()
	}

	s.out.part("The fixed line becomes a black hole: it looks well, and swallows every packet.")
	d.stall()
	line.Blackhole(true)
	s.follow(ctx, d, holeTime)
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	r.StallHole = s.stood(d)

	s.out.part("The fixed line works again; the download comes to its end.")
	line.Blackhole(false)
	s.again = last(s.follow(ctx, d, lastTime))
	if ctx.Err() != nil {
		return r, ctx.Err()
	}

	select {
	case <-d.doneC:
		s.lost = d.err
	default:
		s.lost = fmt.Errorf("it was not through %v after the line was repaired", lastTime)
	}
	d.stop()
	r.Lost = size - d.intact()
	s.out.say(fmt.Sprintf("%.1f of %.1f MB have arrived as they were sent.", float64(d.intact())/1e6, size/1e6))
	return r, nil
}

// alone makes a download for itself and returns its rate in Mbit/s.
func (s *story) alone(ctx context.Context) (float64, error) {
	d := start(ctx, s.rig.FromHost(lab.Server4), endless, aloneTime+time.Second)
	seconds := s.follow(ctx, d, aloneTime)
	d.stop()
	if len(seconds) < int(aloneTime/time.Second) {
		return 0, fmt.Errorf("downloading over one line: %w", errors.Join(d.err, ctx.Err()))
	}
	return settled(seconds), nil
}

// follow prints a line a second until the time has passed or the download has
// ended, and returns what the full seconds brought.
func (s *story) follow(ctx context.Context, d *download, length time.Duration) (seconds []rates) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	m := newMeter(s.rig, d)
	for range length / time.Second {
		select {
		case <-ticker.C:
		case <-d.doneC:
			return seconds
		case <-ctx.Done():
			return seconds
		}
		r := m.read()
		seconds = append(seconds, r)
		s.out.second(r)
	}
	return seconds
}

// stood tells how long the download stood still at most in this part, in ms.
func (s *story) stood(d *download) int64 {
	stall := d.stall().Milliseconds()
	s.out.say(fmt.Sprintf("For the computer the download stood still for %d ms at most.", stall))
	return stall
}

// carried makes sure that it was braid that carried the download.
func (s *story) carried() error {
	st, err := s.rig.Status()
	if err != nil {
		return err
	}
	if c := st.Connections; c.Convert != 1 || c.TCPFallback != 0 {
		return fmt.Errorf("the download does not go over MPTCP through the converter: %+v", c)
	}
	return nil
}
