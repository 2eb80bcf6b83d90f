package e2e

import (
"context"
"net"
"time"

	"fmt"
	"os"
	"testing"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

type slow struct {
	*net.TCPConn
	n int
}

func (s *slow) Read(b []byte) (int, error) {
	n, err := s.TCPConn.Read(b)
	s.n += n
	if s.n > 1<<20 {
		s.n = 0
		time.Sleep(500 * time.Millisecond)
	}
	return n, err
}

func TestZZ(t *testing.T) {
	r := start(t, rig.Options{Lab: lines()})
	if s := os.Getenv("ZZGW"); s != "" {
		sh(t, r.Gateway, s)
	}
	if s := os.Getenv("ZZMCP"); s != "" {
		sh(t, r.Converter, s)
	}
	dest := lab.Server4
	if os.Getenv("ZZ6") != "" {
		dest = lab.Server6
	}
	for i := range 12 {
		d0, d1 := r.Gateway.MIB("MPTcpExtNoDSSInWindow"), r.Converter.MIB("MPTcpExtMPTCPRetrans")
		d := r.FromHost(dest)
		if os.Getenv("ZZSLOW") != "" {
			base := d
			d = func(ctx context.Context) (net.Conn, error) {
				c, err := base(ctx)
				if err != nil {
					return nil, err
				}
				return &slow{TCPConn: c.(*net.TCPConn)}, nil
			}
		}
		rep, err := d.Do(t.Context(), traffic.Download, traffic.Request{Bytes: 8e6, For: 8e9})
		fmt.Printf("%d %.1f Mbit/s stall %v nodss %d retrans %d %v\n", i, rep.Rate()/1e6, rep.Stall, r.Gateway.MIB("MPTcpExtNoDSSInWindow")-d0, r.Converter.MIB("MPTcpExtMPTCPRetrans")-d1, err)
	}
}
