// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// device reads what the kernel counts of a device, each from a file of its own.
func device(t *testing.T, name string) Traffic {
	t.Helper()
	one := func(file string) (n uint64) {
		b, err := os.ReadFile("/sys/class/net/" + name + "/statistics/" + file)
		if err == nil {
			_, err = fmt.Sscan(string(b), &n)
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return Traffic{one("rx_bytes"), one("tx_bytes"), one("rx_packets")}
}

// The files stay open, and show devices that come and go, more of them than
// a page of text has room for.
func TestTraffic(t *testing.T) {
	// What is mounted at /sys is of the namespace before this one.
	if b, err := exec.Command("mount", "-t", "sysfs", "sysfs", "/sys").CombinedOutput(); err != nil {
		t.Fatalf("mounting this namespace's sysfs: %v: %s", err, b)
	}
	defer exec.Command("umount", "/sys").Run()
	var c Counters
	if got := c.Traffic(); len(got) == 0 {
		t.Fatal("no devices")
	}
	for n := range 60 {
		pair(t, fmt.Sprintf("counted%d", n), fmt.Sprintf("other%d", n))
	}
	conn, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		conn.Write(make([]byte, 1000))
		got := c.Traffic()
		if len(got) != 121 {
			t.Errorf("%d devices, want 121", len(got))
		}
		for name, traffic := range got {
			if want := device(t, name); traffic != want && !strings.HasPrefix(name, "counted") && !strings.HasPrefix(name, "other") {
				t.Errorf("%s: %+v, want %+v", name, traffic, want)
			}
		}
		if got["lo"].RX == 0 || got["lo"].RXPackets == 0 {
			t.Errorf("lo: %+v", got["lo"])
		}
	}
}

func TestRetransmissions(t *testing.T) {
	pair(t, "again1", "far1")
	ip(t, "addr add 192.0.2.1/24 dev again1")
	ip(t, "neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev again1")
	var c Counters
	before := c.Retransmissions()
	// A SYN that nobody answers is sent again after a second.
	if conn, err := net.DialTimeout("tcp", "192.0.2.2:9", 1500*time.Millisecond); err == nil {
		conn.Close()
		t.Fatal("somebody has answered")
	}
	if sent := c.Retransmissions() - before; sent != 1 {
		t.Errorf("%d segments were sent again, want 1", sent)
	}
}
