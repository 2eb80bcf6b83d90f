// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// udpHeaderLen is that of an echo packet: magic, sequence number, nanoseconds since the start of
// the stream; big endian. Pattern follows.
const udpHeaderLen = 20

// ServeUDP sends every packet back to where it came from, until c is closed.
func ServeUDP(c net.PacketConn) error {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading packet: %w", err)
		}
		// A packet that cannot be sent back is a lost one.
		c.WriteTo(buf[:n], from)
	}
}

// A Stream is UDP packets at a steady pace, as of a call.
type Stream struct {
	Count    int
	Interval time.Duration
	Size     int           // payload of a packet in bytes, 20 to 65507
	Wait     time.Duration // for the last answers; 0 is one second
}

// A StreamReport tells what came back of a Stream.
type StreamReport struct {
	Sent, Received int
	Reordered      int // came back after a later one
	Duplicate      int
	Damaged        int
	RTT            Latency
	// Gap is the longest time between two answers, from the moment GapAt on.
	Gap, GapAt time.Duration
}

// Loss is the share of packets that did not come back, 0 to 1.
func (r StreamReport) Loss() float64 {
	return float64(r.Sent-r.Received) / float64(max(1, r.Sent))
}

func (r StreamReport) String() string {
	return fmt.Sprintf("%d of %d came back, loss %.2f %%, %d reordered, %d duplicate, %d damaged, longest gap %v at %v, rtt %v",
		r.Received, r.Sent, 100*r.Loss(), r.Reordered, r.Duplicate, r.Damaged,
		r.Gap.Round(time.Millisecond), r.GapAt.Round(time.Millisecond), r.RTT)
}

// Run sends the stream over c, a connected UDP socket, to ServeUDP and waits for the answers.
func (s Stream) Run(ctx context.Context, c net.Conn) (StreamReport, error) {
	if s.Size < udpHeaderLen || s.Size > 65507 {
		return StreamReport{}, fmt.Errorf("size %d is not within %d and 65507", s.Size, udpHeaderLen)
	}
	start := time.Now()
	wait := s.Wait
	if wait == 0 {
		wait = time.Second
	}
	c.SetReadDeadline(start.Add(time.Duration(s.Count)*s.Interval + wait))
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()

	type result struct {
		report StreamReport
		err    error
	}
	resultC := make(chan result, 1)
	go func() {
		r, err := s.receive(c, start)
		resultC <- result{r, err}
	}()
	sent, err := s.send(ctx, c, start)
	if err != nil {
		c.SetReadDeadline(time.Unix(1, 0))
	}
	res := <-resultC
	res.report.Sent = sent
	return res.report, errors.Join(err, res.err)
}

func (s Stream) send(ctx context.Context, c net.Conn, start time.Time) (int, error) {
	packet := make([]byte, s.Size)
	for i := range s.Count {
		select {
		case <-time.After(time.Duration(i)*s.Interval - time.Since(start)):
		case <-ctx.Done():
			return i, context.Cause(ctx)
		}
		binary.BigEndian.PutUint32(packet, magic)
		binary.BigEndian.PutUint64(packet[4:], uint64(i))
		binary.BigEndian.PutUint64(packet[12:], uint64(time.Since(start)))
		copy(packet[udpHeaderLen:], position{phase: uint64(i)}.rest(int64(s.Size)))
		// An unreachable network loses packets; so does a stream.
		c.Write(packet)
	}
	return s.Count, nil
}

func (s Stream) receive(c net.Conn, start time.Time) (StreamReport, error) {
	var r StreamReport
	var rtts []time.Duration
	var last time.Duration
	got := make([]bool, s.Count)
	highest := -1
	buf := make([]byte, 64<<10)
	for r.Received < s.Count {
		n, err := c.Read(buf)
		now := time.Since(start)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if errors.Is(err, net.ErrClosed) {
			return r, fmt.Errorf("reading answer: %w", err)
		}
		if err != nil {
			continue // an ICMP error: the packet it speaks of is lost
		}
		i, sent, ok := s.parse(buf[:n])
		switch {
		case !ok:
			r.Damaged++
			continue
		case got[i]:
			r.Duplicate++
			continue
		}
		got[i] = true
		if i < highest {
			r.Reordered++
		}
		highest = max(highest, i)
		if r.Received++; r.Received > 1 && now-last > r.Gap {
			r.Gap, r.GapAt = now-last, last
		}
		last = now
		rtts = append(rtts, now-sent)
	}
	r.RTT = newLatency(rtts)
	return r, nil
}

// parse returns number and time of sending of an intact packet.
func (s Stream) parse(b []byte) (int, time.Duration, bool) {
	if len(b) != s.Size || binary.BigEndian.Uint32(b) != magic {
		return 0, 0, false
	}
	i := binary.BigEndian.Uint64(b[4:])
	if i >= uint64(s.Count) {
		return 0, 0, false
	}
	sent := time.Duration(binary.BigEndian.Uint64(b[12:]))
	return int(i), sent, position{phase: i}.check(b[udpHeaderLen:]) < 0
}
