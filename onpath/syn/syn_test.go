// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package syn

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

func run(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

var marks = Marks{
	Mask:     0x3f000000,
	Ways:     []uint32{0x20000000, 0x21000000, 0x22000000},
	Accepted: 0x10000000,
	Answer:   0x1f000000,
}

// A SYN is seen with what its mark says, and once only; when it is accepted it
// comes back with the same and the agent's mark.
func TestHold(t *testing.T) {
	var out, back strings.Builder
	for i, mark := range marks.Ways {
		fmt.Fprintf(&out, "\t\ttcp dport %d meta mark set %#x\n", 440+i, mark)
		fmt.Fprintf(&back, "\t\ttcp dport %d meta mark %#x counter drop\n", 440+i, mark|marks.Accepted)
	}
	// Local, because IPv6 refuses other routes to the loopback.
	run(t, fmt.Sprintf(`
		ip route add local 203.0.113.0/24 dev lo; ip -6 route add local 2001:db8:7::/64 dev lo
		nft -f - <<.
		table inet t {
			chain output {
				type filter hook output priority mangle
				meta mark & 0x3f000000 != 0 return
				%s
			}
			chain prerouting {
				type filter hook prerouting priority mangle
				meta mark & 0x20000000 == 0 return
				%s
				drop
			}
		}
.`, out.String(), back.String()))
	defer run(t, "nft delete table inet t")
	h, err := Open(marks)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	synC, doneC := make(chan SYN, 10), make(chan error)
	go func() { doneC <- h.Serve(func(s SYN) { synC <- s }) }()
	for want := range marks.Ways {
		for _, addr := range []string{"203.0.113.9", "2001:db8:7::9"} {
			dest := netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(440+want))
			dialledC := make(chan error)
			go func() {
				c, err := net.DialTimeout("tcp", dest.String(), 5*time.Second)
				if err == nil {
					c.Close()
				}
				dialledC <- err
			}()
			var s SYN
			select {
			case s = <-synC:
			case err := <-dialledC:
				t.Fatalf("%v: no SYN, %v", dest, err)
			}
			if s.Dst != dest || s.Way != want {
				t.Errorf("SYN for %v by way %d, want %v by way %d", s.Dst, s.Way, dest, want)
			}
			if err := h.Accept(s); err != nil {
				t.Error(err)
			}
			if err := h.Refuse(s); err != nil {
				t.Error(err)
			}
			if err := <-dialledC; !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("the host sees %v", err)
			}
		}
	}
	if len(synC) != 0 {
		t.Errorf("seen again: %+v", <-synC)
	}
	if table := run(t, "nft list table inet t"); strings.Count(table, "packets 2 ") != len(marks.Ways) {
		t.Errorf("not each has come back twice:\n%s", table)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := <-doneC; err != nil {
		t.Errorf("Serve ends with %v", err)
	}
	if err := h.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

// Without the loopback nothing can be held: who holds is told, and no socket
// stays open.
func TestLoopbackAway(t *testing.T) {
	h, err := Open(marks)
	if err != nil {
		t.Fatal(err)
	}
	doneC := make(chan error)
	go func() { doneC <- h.Serve(func(SYN) {}) }()
	run(t, "ip link set lo down")
	defer run(t, "ip link set lo up")
	if err := <-doneC; !errors.Is(err, unix.ENETDOWN) {
		t.Errorf("Serve ends with %v", err)
	}
	for _, w := range h.ways {
		if err := w.in.Close(); err == nil {
			t.Errorf("%s was open", w.in.Name())
		}
	}
}
