// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"net"
	"sync"
	"testing"
)

// far is a network namespace with servers, 198.18.0.80 and 198.18.0.81, behind
// the device far0; 198.18.0.1 and 198.18.0.2 are the addresses of the test's
// own namespace towards them.
var far = sync.OnceValues(func() (*Namespace, error) {
	n, err := New()
	if err == nil {
		err = n.Line("far0", []string{"198.18.0.1/24", "198.18.0.2/24"}, []string{"198.18.0.80/24", "198.18.0.81/24"})
	}
	return n, err
})

// Far makes sure that there are servers in another namespace.
func Far(t testing.TB) {
	t.Helper()
	if _, err := far(); err != nil {
		t.Fatal(err)
	}
}

// InFar has f run where the servers are, see [Namespace.Do].
func InFar(t testing.TB, f func() error) {
	t.Helper()
	Far(t)
	n, _ := far()
	if err := n.Do(f); err != nil {
		t.Fatal(err)
	}
}

// ListenFar listens at a port of the server 198.18.0.80 until the test ends.
func ListenFar(t testing.TB, mptcp bool) (l net.Listener) {
	t.Helper()
	InFar(t, func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(mptcp)
		l, err = lc.Listen(context.Background(), "tcp", "198.18.0.80:0")
		return err
	})
	t.Cleanup(func() { l.Close() })
	return l
}

// Reset closes a TCP connection so that its peer sees a reset.
func Reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0) // which fails for what has gone already
	c.Close()
}
