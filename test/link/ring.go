// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package link

import "time"

// A packet waits for the transmitter since at, or will be delivered at at.
type packet struct {
	buf []byte
	at  time.Duration
}

// A ring is a queue of packets that grows and never shrinks.
type ring struct {
	slots []packet // length a power of two
	head  int
	n     int
}

func (r *ring) slot(i int) *packet { return &r.slots[(r.head+i)&(len(r.slots)-1)] }

func (r *ring) front() *packet { return r.slot(0) }

func (r *ring) pop() packet {
	p := *r.front()
	r.head = (r.head + 1) & (len(r.slots) - 1)
	r.n--
	return p
}

func (r *ring) push(p packet) {
	if r.n == len(r.slots) {
		r.grow()
	}
	r.n++
	*r.slot(r.n - 1) = p
}

// insert puts p behind the last packet that is not later.
func (r *ring) insert(p packet) {
	r.push(p)
	for i := r.n - 1; i > 0 && r.slot(i-1).at > p.at; i-- {
		*r.slot(i), *r.slot(i - 1) = *r.slot(i - 1), *r.slot(i)
	}
}

func (r *ring) grow() {
	slots := make([]packet, max(64, 2*len(r.slots)))
	for i := range r.n {
		slots[i] = *r.slot(i)
	}
	r.slots, r.head = slots, 0
}
