// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// trips compares how long a byte takes to the server and back on an open
// connection, alone and while a download fills the lines.
func (b *bench) trips(ctx context.Context) (err error) {
	const n, length = 200, 4 * time.Second
	t := newTable(fmt.Sprintf("Round trip of a byte, 50 Mbit/s 10 ms + 20 Mbit/s 30 ms, ms: median and 90th percentile of %d", n),
		"without", "p90", "braid", "p90", "more")
	d, err := b.bed(ctx, over(line(50e6, 10), line(20e6, 30)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	ways := []struct {
		r    *rig.Rig
		dial traffic.Dial
	}{{d.bare, d.alone()}, {d.braid, d.carried()}}
	for _, beside := range []bool{false, true} {
		name := "at rest"
		if beside {
			name = "beside a download"
		}
		var mid, late [2]float64
		for i, w := range ways {
			ms, err := tripsOf(ctx, w.r, w.dial, beside, n, length)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			slices.Sort(ms)
			mid[i], late[i] = median(ms), ms[len(ms)*9/10]
		}
		t.row(name, fmt.Sprintf("%.2f", mid[0]), fmt.Sprintf("%.2f", late[0]), fmt.Sprintf("%.2f", mid[1]), fmt.Sprintf("%.2f", late[1]),
			fmt.Sprintf("%.2f", mid[1]-mid[0]))
	}
	return d.check()
}

// tripsOf are n round trips in ms.
func tripsOf(ctx context.Context, r *rig.Rig, dial traffic.Dial, beside bool, n int, length time.Duration) (ms []float64, err error) {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // else the converter would leave
	echo, err := r.Server.Listen(ctx, plain, "tcp", fmt.Sprintf(":%d", echoPort))
	if err != nil {
		return nil, err
	}
	defer echo.Close()
	go serveEcho(echo)
	c, err := openOne(ctx, r.Host(), lab.Host4.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * length))
	if beside {
		doneC := make(chan error, 1)
		go func() {
			_, _, err := download(ctx, dial, 2*length)
			doneC <- err
		}()
		defer func() { err = errors.Join(err, <-doneC) }()
		if err := pause(ctx, length/4); err != nil {
			return nil, err
		}
	}
	for range n {
		began := time.Now()
		if _, err := c.Write([]byte{'x'}); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return nil, err
		}
		ms = append(ms, time.Since(began).Seconds()*1e3)
	}
	return ms, nil
}
