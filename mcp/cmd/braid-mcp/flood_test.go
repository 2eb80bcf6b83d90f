// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/convert"
	"braid/transport/proof"
)

// flooders is how many strangers there are of each kind, unless
// BRAID_STRANGERS says otherwise.
const flooders = 4000

// Masses of strangers, from many addresses, of whatever kind: a client is served
// at once, what they take is bounded, and nothing of it stays.
func TestFloods(t *testing.T) {
	n := flooders
	if text := os.Getenv("BRAID_STRANGERS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	atOnce := int(files.Cur) - 2000
	// From 127.9.0.0/16 the third ACK never comes, from 127.10.0.0/16 a second
	// late; the first byte of a packet, where it is a G, gets it lost each time.
	sh(t, `table ip flood {
		counter told { }
		set seen { type ipv4_addr . inet_service; flags dynamic; size 65535; timeout 1m; }
		chain out {
			type filter hook output priority 0
			tcp sport 5124 ip daddr 127.9.0.0/16 tcp flags & (syn | ack) == syn | ack drop
			tcp sport 5124 ip daddr 127.9.0.0/16 tcp flags & (fin | psh) != 0 counter name told drop
			tcp sport 5124 ip daddr 127.10.0.0/16 tcp flags & (syn | ack) == syn | ack ip daddr . tcp dport != @seen add @seen { ip daddr . tcp dport } drop
		}
		chain in {
			type filter hook input priority 0
			tcp dport 5124 @th,256,8 0x47 drop
		}
	}`, "nft", "-f", "-")
	defer sh(t, "", "nft", "delete", "table", "ip", "flood")
	sh(t, "", "ip", "link", "set", "lo", "mtu", "1500", "gso_max_segs", "1") // packets as on a line
	defer sh(t, "", "ip", "link", "set", "lo", "mtu", "65536", "gso_max_segs", "65535")
	sysctl(t, "net/ipv4/tcp_fastopen", "519") // also data in the SYN without a cookie
	info, err := convert.Reply(convert.Info{}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	first := func(fd int) error { return send(fd, info[:1]) }
	gap := func(fd int) error {
		if err := send(fd, []byte("G")); err != nil {
			return err
		}
		return send(fd, make([]byte, 256<<10))
	}
	for _, tt := range []struct {
		name string
		net  byte // the second byte of their addresses
		most int  // of them; 0: all
		syn  bool // has data in it
		act  func(fd int) error
		then func(fd int) error // when the connection is there; nil: nothing more
	}{
		{"mute", 8, 0, false, nil, nil},
		{"a byte now and then", 8, 0, true, first, nil},
		{"data behind a gap", 8, 2000, false, gap, nil},
		{"a byte in the SYN, then a gap", 10, 1000, true, first, gap},
		{"refused and talking on", 8, 0, true, func(fd int) error { return send(fd, append(bytes.Clone(info), make([]byte, 60<<10)...)) }, nil},
		{"half-open", 9, 0, false, nil, nil},
		{"half-open with data", 9, 0, true, func(fd int) error { return send(fd, info) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t, "metrics = \"\"\n[[client]]\nname = \"a\"\nkey = \""+shared+"\"\n")
			far := echo(t)
			m := p.manage()
			m.start()
			secret, _ := hex.DecodeString(shared)
			g := gateway{proof: proof.NewClient(secret)}
			if err := g.once(t.Context(), far); err != nil {
				t.Fatal(err)
			}
			before := m.usage()
			count := n
			if tt.most > 0 {
				count = min(n, tt.most)
			}
			var fds []int
			defer func() {
				for _, fd := range fds {
					unix.Close(fd)
				}
			}()
			var slowest time.Duration
			var kernel int
			for i := range count {
				fd, err := stranger(tt.net, i, tt.syn, tt.act)
				if err != nil {
					t.Fatalf("stranger %d: %v", i, err)
				}
				if fds = append(fds, fd); len(fds) > atOnce {
					unix.Close(fds[0])
					fds = fds[1:]
				}
				if i%(count/8) == count/8-1 {
					if tt.then != nil {
						for _, fd := range fds[len(fds)-count/8:] {
							if err := connected(fd); err != nil {
								t.Fatal(err)
							}
							if err := tt.then(fd); err != nil {
								t.Fatal(err)
							}
						}
						time.Sleep(200 * time.Millisecond) // it has looked again meanwhile
					}
					began := time.Now()
					if err := g.once(t.Context(), far); err != nil {
						t.Errorf("beside %d strangers: %v", i, err)
					}
					slowest = max(slowest, time.Since(began))
					kernel = max(kernel, received(t))
				}
			}
			st := status(t, p)
			after := m.usage()
			t.Logf("%d strangers: %d at a time, %d shed; slowest client %v; program %d kB (before %d), kernel's receive queues %d kB", count,
				st.Strangers, st.Shed, slowest.Round(time.Millisecond), after.memory>>10, before.memory>>10, kernel>>10)
			if slowest > 5*time.Second {
				t.Errorf("a client waited %v", slowest)
			}
			if grown := after.memory - before.memory; grown > raceMemory*(32<<20+st.Strangers*24<<10) {
				t.Errorf("the program has grown by %d bytes", grown)
			}
			if kernel > 1<<20+min(count, 16384)*64<<10 {
				t.Errorf("the kernel holds %d bytes", kernel)
			}
			for _, fd := range fds {
				unix.Close(fd)
			}
			fds = nil
			m.wait("they have gone", func() bool { return status(t, p).Strangers == 0 })
			// Who has not been heard of twice may not be who he says.
			if out, err := exec.Command("nft", "list", "counter", "ip", "flood", "told").Output(); err != nil || !bytes.Contains(out, []byte("packets 0 ")) {
				t.Errorf("those without a third ACK were told something: %s, %v", out, err)
			}
		})
	}
}

// stranger opens a plain TCP connection, the ith, and does something with it. What
// the other side makes of that does not matter.
func stranger(net byte, i int, syn bool, act func(fd int) error) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if syn {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
	}
	const each = 1000 // of one address
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, net, byte(i / each), 1}}); err != nil {
		return fd, err
	}
	to := netip.MustParseAddrPort(address)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fd, err
	}
	if act != nil {
		return fd, act(fd)
	}
	return fd, nil
}

// connected waits for the end of a handshake.
func connected(fd int) error {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(p, int(patience.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return errors.New("no connection comes about")
		default:
			return nil
		}
	}
}

// send sends what there is room for. That the other side has reset the
// connection is no error.
func send(fd int, b []byte) error {
	_, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_NOSIGNAL)
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

var receiveMemory = regexp.MustCompile(`skmem:\(r([0-9]+),`)

// received is what the kernel holds of what has come for the converter and was
// not read.
func received(t *testing.T) (bytes int) {
	t.Helper()
	out, err := exec.Command("ss", "-tmHn", "sport = :5124").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range receiveMemory.FindAllStringSubmatch(string(out), -1) {
		n, _ := strconv.Atoi(found[1])
		bytes += n
	}
	return bytes
}

func sh(t *testing.T, stdin, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func sysctl(t *testing.T, key, value string) {
	t.Helper()
	name := "/proc/sys/" + key
	before, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, []byte(value), 0)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("setting %s: %w", key, err))
	}
	t.Cleanup(func() { os.WriteFile(name, before, 0) })
}
