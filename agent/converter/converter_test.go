// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package converter

import (
	"context"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"braid/agent/path"
	"braid/test/netns"
	"braid/transport/convert"
	"braid/transport/journal"
	"braid/transport/mptcp"
)

func TestMain(m *testing.M) { netns.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve answers each message with another on the loopback.
func serve(t *testing.T, with convert.TLV) netip.AddrPort {
	t.Helper()
	l, err := mptcp.Listen(t.Context(), "[::]:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := mptcp.Accept(l)
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := convert.Read(c); err != nil {
					return
				}
				b, err := convert.Message{TLVs: []convert.TLV{with}}.Append(nil)
				if err != nil {
					t.Error(err)
				}
				c.Write(b)
			}()
		}
	}()
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), netip.MustParseAddrPort(l.Addr().String()).Port())
}

// The sources play WANs; what the dead one sends gets lost.
var (
	alive  = netip.MustParseAddr("127.0.0.2")
	dead   = netip.MustParseAddr("127.0.0.3")
	serves = convert.SupportedTCPExtensions{Kinds: []byte{convert.KindMPTCP}}
)

func TestMonitor(t *testing.T) {
	if out, err := exec.Command("nft", "table ip t { chain o { type filter hook output priority 0; ip saddr "+dead.String()+" drop; }; }").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("nft", "delete table ip t").Run() })
	up, refusing := serve(t, serves), serve(t, convert.Error{Code: convert.NotAuthorized})
	tests := []struct {
		name        string
		ways        [2]Way
		want        path.ConverterState
		least, most time.Duration
	}{
		{"it answers", [2]Way{{alive, up}}, path.ConverterUp, 0, patience},
		{"it answers over both", [2]Way{{alive, up}, {alive, up}}, path.ConverterUp, 0, patience},
		{"the first WAN is dead", [2]Way{{dead, up}, {alive, up}}, path.ConverterUp, patience, askTimeout},
		{"the second WAN is dead", [2]Way{{alive, up}, {dead, up}}, path.ConverterUp, 0, patience},
		{"all WANs are dead", [2]Way{{dead, up}, {dead, up}}, path.ConverterDown, askTimeout, askTimeout + time.Second},
		{"the only WAN is dead", [2]Way{{dead, up}}, path.ConverterDown, askTimeout, askTimeout + time.Second},
		{"nobody listens", [2]Way{{alive, netip.AddrPortFrom(up.Addr(), 1)}, {alive, netip.AddrPortFrom(up.Addr(), 1)}}, path.ConverterDown, 0, patience},
		{"it refuses", [2]Way{{alive, refusing}, {alive, up}}, path.ConverterRefused, 0, patience},
		{"it refuses over the second WAN", [2]Way{{dead, refusing}, {alive, refusing}}, path.ConverterRefused, askTimeout, askTimeout + time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := NewMonitor(journal.New(t.Output()), new(mptcp.Dialer))
			ctx, cancel := context.WithCancel(t.Context())
			endedC := make(chan error)
			go func() { endedC <- m.Run(ctx) }()
			defer func() {
				cancel()
				must(t, <-endedC)
			}()
			began := time.Now()
			m.SetTargets([]Target{{Name: "mcp", Ways: tt.ways}})
			select {
			case <-m.Changed():
			case <-time.After(2 * askTimeout):
				t.Fatal("nothing has changed")
			}
			took := time.Since(began)
			if s := m.Status()["mcp"]; s.State != tt.want || (s.Err == nil) != (tt.want == path.ConverterUp) {
				t.Errorf("%v, %v, want %v", s.State, s.Err, tt.want)
			}
			if took < tt.least || took > tt.most {
				t.Errorf("known after %v, want %v to %v", took, tt.least, tt.most)
			}
			m.Doubt("mcp") // asks again, with the same result
			m.Doubt("nobody")
		})
	}
}
