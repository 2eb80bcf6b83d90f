// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"braid/test/link"
	"braid/test/traffic"
)

// slowerLength is that of a download, slowerSkip what of it is not counted.
const (
	slowerLength = 10 * time.Second
	slowerSkip   = slowerLength / 5 // as download has it
)

// crooked are pairs of lines that a bond may lose by, the better one first.
var crooked = []struct {
	name          string
	better, other link.Spec
}{
	{"100 0 ms + 50 0 ms", line(100e6, 0), line(50e6, 0)},
	{"50 10 ms + 20 30 ms", line(50e6, 10), line(20e6, 30)},
	{"50 10 ms + 20 30 ms, 2 % lost", line(50e6, 10), lossy(line(20e6, 30), 0.02)},
	{"12 15 ms + 1 150 ms", line(12e6, 15), line(1e6, 150)},
	{"40 20 ms + 2 400 ms", line(40e6, 20), line(2e6, 400)},
	{"30 15 ms + LTE trace 25 ms", line(30e6, 15), lte(25)},
}

func lossy(s link.Spec, loss float64) link.Spec {
	s.Loss = loss
	return s
}

// lte is the made-up cellular line, with a one-way delay in ms.
func lte(ms time.Duration) link.Spec {
	return link.Spec{Trace: link.LTE(1), Delay: ms * time.Millisecond, Queue: 100 * time.Millisecond}
}

// neverSlower compares downloads over two lines with the better one alone.
func (b *bench) neverSlower(ctx context.Context) error {
	n := (b.repeat + 1) / 2
	t := newTable(fmt.Sprintf("Never slower, download over two lines, Mbit/s: median of %d, %v each, the first %v not counted",
		n, slowerLength, slowerSkip), "better line", "braid", "ratio", "capacity", "of capacity")
	var errs []error
	for _, p := range crooked {
		single, braid, err := b.bothWays(ctx, p.better, p.other, n)
		if ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
		sum := capacity(p.better) + capacity(p.other)
		t.row(p.name, fmt.Sprintf("%.1f", single/1e6), fmt.Sprintf("%.1f", braid/1e6), fmt.Sprintf("%.3f", braid/single),
			fmt.Sprintf("%.1f", sum/1e6), fmt.Sprintf("%.3f", braid/sum))
	}
	return errors.Join(errs...)
}

// bothWays returns medians of n turns each, in bit/s.
func (b *bench) bothWays(ctx context.Context, better, other link.Spec, n int) (single, braid float64, err error) {
	d, err := b.bed(ctx, over(better, other))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	dials := []traffic.Dial{d.alone(), d.carried()}
	rates := make([][]float64, len(dials))
	for range n {
		for i, dial := range dials {
			if other.Trace != nil {
				if err := d.rewind(); err != nil {
					return 0, 0, err
				}
			}
			rate, _, err := download(ctx, dial, slowerLength)
			if err != nil {
				return 0, 0, err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	return median(rates[0]), median(rates[1]), d.check()
}

// rewind lets the second line's trace begin anew: a trace does so when it is
// another one, though it be equal.
func (d *bed) rewind() error {
	l := d.braid.Link(d.braid.WANs[1].Name)
	anew := func(s *link.Spec) { s.Trace = link.LTE(1) }
	return errors.Join(l.AB().Change(anew), l.BA().Change(anew))
}

// capacity is what TCP can at most get of a line in the time that counts, in
// bit/s.
func capacity(s link.Spec) float64 {
	rate := float64(s.Rate)
	if s.Trace != nil {
		rate = float64(opportunities(s.Trace)) * link.MTU * 8 / (slowerLength - slowerSkip).Seconds()
	}
	return rate * (1 - s.Loss) * payload
}

// opportunities are those in the time that counts, of a trace that begins with
// the download.
func opportunities(t *link.Trace) (n int) {
	var b bytes.Buffer
	t.WriteTo(&b)
	for in := bufio.NewScanner(&b); in.Scan(); {
		ms, _ := strconv.Atoi(in.Text())
		if at := time.Duration(ms) * time.Millisecond; at >= slowerSkip && at < slowerLength {
			n++
		}
	}
	return n
}
