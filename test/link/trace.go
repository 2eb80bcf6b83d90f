// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sort"
	"strconv"
	"time"
)

// slotBytes is what one opportunity of a trace can send.
const slotBytes = 1500

// A Trace is a recording of the opportunities a link had to send 1500 bytes, in the form of
// mahimahi. It repeats after its last opportunity. An opportunity may send several small
// packets or a part of a large one; what it does not use is lost.
type Trace struct {
	ms     []int64 // ascending
	period time.Duration
}

// ReadTrace reads one millisecond timestamp a line, ascending, each an opportunity.
func ReadTrace(r io.Reader) (*Trace, error) {
	var ms []int64
	in := bufio.NewScanner(r)
	for in.Scan() {
		v, err := strconv.ParseInt(in.Text(), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("reading trace, line %d: %w", len(ms)+1, err)
		}
		if v < 0 || len(ms) > 0 && v < ms[len(ms)-1] {
			return nil, fmt.Errorf("reading trace, line %d: %d is not ascending", len(ms)+1, v)
		}
		ms = append(ms, v)
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("reading trace: %w", err)
	}
	return newTrace(ms)
}

func newTrace(ms []int64) (*Trace, error) {
	if len(ms) == 0 || ms[len(ms)-1] == 0 {
		return nil, fmt.Errorf("trace of %d opportunities has no duration", len(ms))
	}
	return &Trace{ms: ms, period: time.Duration(ms[len(ms)-1]) * time.Millisecond}, nil
}

// WriteTo writes the form that ReadTrace reads.
func (t *Trace) WriteTo(w io.Writer) (int64, error) {
	var b []byte
	for _, v := range t.ms {
		b = append(strconv.AppendInt(b, v, 10), '\n')
	}
	n, err := w.Write(b)
	return int64(n), err
}

// Duration is the time after which the trace repeats.
func (t *Trace) Duration() time.Duration { return t.period }

// Rate is the mean rate in bit/s.
func (t *Trace) Rate() int64 {
	return int64(float64(len(t.ms)*slotBytes*8) / t.period.Seconds())
}

// time is that of the opportunity i, counted over all repetitions.
func (t *Trace) time(i int64) time.Duration {
	n := int64(len(t.ms))
	return time.Duration(i/n)*t.period + time.Duration(t.ms[i%n])*time.Millisecond
}

// next is the first opportunity not before at.
func (t *Trace) next(at time.Duration) int64 {
	round := int64(at / t.period)
	rest := at % t.period
	i := sort.Search(len(t.ms), func(i int) bool { return time.Duration(t.ms[i])*time.Millisecond >= rest })
	return round*int64(len(t.ms)) + int64(i)
}

// LTE makes up a minute of a cellular link: 15 Mbit/s on average, wandering between 2 and 40,
// with a stall of 100 to 400 ms about every eight seconds. The same seed makes the same trace.
// It is synthetic: a mean-reverting walk of the logarithm of the rate, in steps of 20 ms.
func LTE(seed uint64) *Trace {
	const (
		length     = 60_000 // ms
		step       = 20     // ms
		low, high  = 2.0, 40.0
		mean       = 13.2 // of the walk, Mbit/s; lies below the average, as the walk is logarithmic
		pull       = 0.02
		wander     = 0.12
		stallEvery = 8_000 // ms
	)
	rnd := rand.New(rand.NewPCG(seed, 0x17e))
	x, credit, stallUntil := math.Log(mean), 0.0, 0
	var ms []int64
	for t := 1; t <= length; t++ {
		if t%step == 0 {
			x += pull*(math.Log(mean)-x) + wander*rnd.NormFloat64()
			x = min(max(x, math.Log(low)), math.Log(high))
			if rnd.IntN(stallEvery) < step {
				stallUntil = t + 100 + rnd.IntN(300)
			}
		}
		if t < stallUntil {
			continue
		}
		for credit += math.Exp(x) * 1e3 / (8 * slotBytes); credit >= 1; credit-- {
			ms = append(ms, int64(t))
		}
	}
	ms[len(ms)-1] = length
	t, err := newTrace(ms)
	if err != nil {
		panic(err) // length is not 0
	}
	return t
}
