// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"bufio"
	"net"
	"sync"
)

// maxQueue is how many bytes wait for a client before it is taken for one that
// does not read, and disconnected. It holds several of the largest messages.
const maxQueue = 4 * MaxMessage

// peer is a client as the broker sees it.
type peer struct {
	id      uint32
	nc      net.Conn
	objects map[uint32]*object // guarded by Broker.mu

	wakeC   chan struct{}
	closedC chan struct{}
	once    sync.Once

	mu     sync.Mutex
	queue  net.Buffers
	queued int // bytes, with those being written
}

func (p *peer) close() {
	p.once.Do(func() {
		close(p.closedC)
		p.nc.Close()
	})
}

// send never blocks.
func (p *peer) send(m message) {
	b := m.append(make([]byte, 0, headerSize+attrHeader+len(m.body)))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queued+len(b) > maxQueue {
		p.close()
		return
	}
	p.queue = append(p.queue, b)
	p.queued += len(b)
	select {
	case p.wakeC <- struct{}{}:
	default:
	}
}

func (p *peer) write() {
	for {
		select {
		case <-p.wakeC:
		case <-p.closedC:
			return
		}
		p.mu.Lock()
		batch := p.queue
		p.queue = nil
		p.mu.Unlock()
		n, err := batch.WriteTo(p.nc)
		if err != nil {
			p.close()
			return
		}
		p.mu.Lock()
		p.queued -= int(n)
		p.mu.Unlock()
	}
}

// read hands messages to fn until the connection ends.
func (p *peer) read(fn func(message)) {
	r := bufio.NewReader(p.nc)
	for {
		m, err := readMessage(r, MaxMessage)
		if err != nil {
			return
		}
		fn(m)
	}
}
