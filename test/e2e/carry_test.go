// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
)

// pair is the lab of 50 Mbit/s at 10 ms and 20 Mbit/s at 30 ms.
func pair() lab.Options {
	fast := link.Spec{Rate: 50e6, Delay: 10 * time.Millisecond}
	slow := link.Spec{Rate: 20e6, Delay: 30 * time.Millisecond}
	return lab.Options{Accesses: []lab.Access{lab.Fibre(fast, fast), lab.LTE(slow, slow)}}
}

func TestDownloadOverBoth(t *testing.T) {
	r := start(t, rig.Options{Lab: pair()})
	for _, server := range []string{lab.Server4.String(), lab.Server6.String()} {
		_ = server
	}
	rep, err := r.FromHost(lab.Server4).Do(t.Context(), traffic.Download, traffic.Request{Bytes: 40e6})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(rep)
	st, err := r.Status()
	t.Logf("%+v %v", st, err)
}
