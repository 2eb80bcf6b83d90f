// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import "sync"

// boxSize is how many events wait for a handler before further ones are lost.
const boxSize = 256

// mailbox runs functions one after another in the order they were put, in a
// goroutine that lives while there are any.
type mailbox struct {
	spawn func(func())

	mu   sync.Mutex
	fns  []func()
	busy bool
	lost int
}

// put runs fn later, however many wait already.
func (b *mailbox) put(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.putLocked(fn)
}

// offer runs fn later, unless too many wait already. fn is told how many offers
// were lost since the one before.
func (b *mailbox) offer(fn func(lost int)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.fns) >= boxSize {
		b.lost++
		return
	}
	lost := b.lost
	b.lost = 0
	b.putLocked(func() { fn(lost) })
}

func (b *mailbox) putLocked(fn func()) {
	b.fns = append(b.fns, fn)
	if !b.busy {
		b.busy = true
		b.spawn(b.drain)
	}
}

func (b *mailbox) drain() {
	for {
		b.mu.Lock()
		if len(b.fns) == 0 {
			b.busy = false
			b.mu.Unlock()
			return
		}
		fn := b.fns[0]
		b.fns = b.fns[1:]
		b.mu.Unlock()
		fn()
	}
}
