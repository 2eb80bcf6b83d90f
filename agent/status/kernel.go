// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"sync"
	"time"

	"braid/agent/report"
	"braid/transport/mptcp"
)

// kernelAge is how old it may be what the kernel is said to be able to do. To
// find out takes a socket and some files, and it changes when somebody sets a sysctl.
const kernelAge = 10 * time.Second

// kernel is what the kernel can do, as it was lately.
type kernel struct {
	mu   sync.Mutex
	at   time.Time
	last report.Kernel
}

func (k *kernel) features() report.Kernel {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.at) >= kernelAge {
		f := mptcp.Features()
		k.at = time.Now()
		k.last = report.Kernel{Release: f.Release, MPTCP: f.MPTCP, TFO: f.FastOpen, TProxy: true, Congestion: mptcp.CongestionControl().Lines}
	}
	return k.last
}
