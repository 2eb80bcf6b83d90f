// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"sync"
	"time"

	"braid/mcp/config"
	"braid/transport/convert"
)

// clients knows who may use the converter and how much.
type clients struct {
	list []config.Client

	mu   sync.Mutex
	open []int // connections, as list
}

func newClients(list []config.Client) clients {
	return clients{list: list, open: make([]int, len(list))}
}

// admit finds the client that a request comes from and counts its connection
// until release; to ask what the converter can do is always free. The errors are Convert's Not Authorized and Resource
// Exceeded.
func (cs *clients) admit(from netip.Addr, m convert.Message) (name string, release func(), err error) {
	cookie, _ := convert.Find[convert.Cookie](m)
	i := cs.find(from, cookie)
	if i < 0 {
		return "", nil, convert.Error{Code: convert.NotAuthorized}
	}
	if _, connects := convert.Find[convert.Connect](m); !connects {
		return cs.list[i].Name, func() {}, nil
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.open[i] >= cs.list[i].Connections {
		return "", nil, convert.RetryError(convert.ResourceExceeded, time.Second)
	}
	cs.open[i]++
	return cs.list[i].Name, func() {
		cs.mu.Lock()
		cs.open[i]--
		cs.mu.Unlock()
	}, nil
}

// find prefers a cookie, which names one client, to a network, which may be
// shared. It answers -1 for a stranger.
func (cs *clients) find(from netip.Addr, cookie convert.Cookie) int {
	found := -1
	for i, c := range cs.list {
		if cookie.Equal(c.Cookie) {
			return i
		}
		for _, n := range c.Networks {
			if n.Contains(from) && found < 0 {
				found = i
			}
		}
	}
	return found
}
