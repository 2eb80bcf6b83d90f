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
	"braid/test/link"
	"braid/test/rig"
)

// idle measures what a cellular line carries in each role while nothing is going
// on, without connections and with some that are open, and says what that makes in
// a month. All worlds are there at once: they do nothing.
func (b *bench) idle(ctx context.Context) error {
	const (
		settle = 15 * time.Second // a new line is asked more often
		length = 10 * time.Minute
		month  = 31 * 24 * time.Hour
		count  = 48
	)
	t := newTable(fmt.Sprintf("Idle bytes of an LTE with IPv4 and IPv6, in %v and by that in a month", length),
		"none", "a month, MB", fmt.Sprintf("%d open", count), "each, bytes")
	alone := lab.Options{Accesses: []lab.Access{lab.LTE(link.Spec{}, link.Spec{})}}
	both := lab.Options{Accesses: []lab.Access{lab.Fibre(link.Spec{}, link.Spec{}), lab.LTE(link.Spec{}, link.Spec{})}}
	var roles []string
	type result struct {
		role  string
		bytes [2]uint64
		err   error
	}
	resultC := make(chan result)
	for _, role := range []string{"alone", "primary", "bond", "overflow", "backup", "off"} {
		roles = append(roles, role)
		o, uci := both, strings.Replace(rig.DefaultUCI, "option role 'bond'", "option role '"+role+"'", 1)
		switch role {
		case "alone":
			o, uci = alone, strings.Replace(rig.DefaultUCI, "config wan 'fibre'\n\toption device 'fibre'\n\toption role 'primary'\n", "", 1)
			uci = strings.Replace(uci, "'bond'", "'primary'", 1)
		case "primary":
			uci = strings.Replace(uci, "device 'fibre'\n\toption role 'primary'", "device 'fibre'\n\toption role 'bond'", 1)
		}
		uci = strings.Replace(uci, "list address '192.0.2.10'", "list address '192.0.2.10'\n\tlist address '2001:db8:10::10'", 1)
		go func() {
			res := result{role: role}
			res.bytes, res.err = b.idleIn(ctx, o, uci, count, settle, length)
			resultC <- res
		}()
	}
	found := make(map[string]result)
	var errs []error
	for range roles {
		r := <-resultC
		found[r.role] = r
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.role, r.err))
		}
	}
	for _, role := range roles {
		none, some := float64(found[role].bytes[0]), float64(found[role].bytes[1])
		t.row(role, fmt.Sprint(none), fmt.Sprintf("%.2f", none*month.Seconds()/length.Seconds()/1e6), fmt.Sprint(some), fmt.Sprintf("%.0f", (some-none)/count))
	}
	return errors.Join(errs...)
}

// idleIn measures a world without connections, and then with some.
func (b *bench) idleIn(ctx context.Context, o lab.Options, uci string, count int, settle, length time.Duration) (bytes [2]uint64, err error) {
	r, err := b.configured(context.WithoutCancel(ctx), o, uci)
	if err != nil {
		return bytes, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	echo, err := echoes(ctx, r)
	if err != nil {
		return bytes, err
	}
	defer echo.Close()
	carried := func() uint64 {
		l := r.Link("lte")
		return l.AB().Counters().Bytes + l.BA().Counters().Bytes
	}
	for i := range bytes {
		if i > 0 {
			conns, err := open(ctx, r, count)
			defer func() {
				for _, c := range conns {
					c.Close()
				}
			}()
			if err != nil {
				return bytes, err
			}
		}
		if err := pause(ctx, settle); err != nil {
			return bytes, err
		}
		before := carried()
		if err := pause(ctx, length); err != nil {
			return bytes, err
		}
		bytes[i] = carried() - before
	}
	return bytes, nil
}
