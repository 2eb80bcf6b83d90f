// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"braid/test/lab"
	"braid/test/rig"
)

// fourUCI has one WAN for each access of four.
const fourUCI = rig.DefaultUCI + `
config wan 'cable'
	option device 'cable'
	option role 'bond'

config wan 'stick'
	option device 'stick'
	option kind 'cellular'
	option role 'backup'
`

func four() lab.Options {
	o := over(line(50e6, 10), line(20e6, 30))
	cable, stick := lab.Fibre(line(100e6, 5), line(100e6, 5)), lab.LTE(line(10e6, 40), line(10e6, 40))
	cable.Name, stick.Name = "cable", "stick"
	o.Accesses = append(o.Accesses, cable, stick)
	return o
}

// atRest measures what the agent takes when nothing is going on.
func (b *bench) atRest(ctx context.Context) (err error) {
	const settle, length = 5 * time.Second, time.Minute // the kernel counts in 10 ms
	t := newTable(fmt.Sprintf("At rest, four WANs, %v", length), "CPU %", "RSS, MB", "own, MB", "peak, MB")
	r, err := b.configured(context.WithoutCancel(ctx), four(), fourUCI)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := pause(ctx, settle); err != nil {
		return err
	}
	programs := []struct {
		name string
		p    *rig.Process
		cpu  time.Duration // at the start
	}{{name: "braid", p: r.Agent}, {name: "braid-mcp", p: r.MCP}}
	for i := range programs {
		u, err := programs[i].p.Usage()
		if err != nil {
			return err
		}
		programs[i].cpu = u.CPU
	}
	if err := pause(ctx, length); err != nil {
		return err
	}
	for _, p := range programs {
		u, err := p.p.Usage()
		if err != nil {
			return err
		}
		mb := func(bytes int64) string { return fmt.Sprintf("%.1f", float64(bytes)/1e6) }
		t.row(p.name, fmt.Sprintf("%.2f", 100*(u.CPU-p.cpu).Seconds()/length.Seconds()),
			mb(u.Resident), mb(u.Anonymous), mb(u.Peak))
	}
	return allUp(r)
}

// allUp makes sure that the agent takes care of every line.
func allUp(r *rig.Rig) error {
	s, err := r.Status()
	if err != nil {
		return err
	}
	up := 0
	var states []string
	for _, w := range s.WANs {
		states = append(states, w.Name+" "+w.State)
		if w.State == "up" {
			up++
		}
	}
	if up != len(r.WANs) {
		return fmt.Errorf("%d of %d WANs are up: %s", up, len(r.WANs), strings.Join(states, ", "))
	}
	return nil
}
