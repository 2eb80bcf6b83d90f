package e2e

import (
	"fmt"
	"os"
	"testing"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

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
		rep, err := r.FromHost(dest).Do(t.Context(), traffic.Download, traffic.Request{Bytes: 8e6, For: 8e9})
		fmt.Printf("%d %.1f Mbit/s stall %v nodss %d retrans %d %v\n", i, rep.Rate()/1e6, rep.Stall, r.Gateway.MIB("MPTcpExtNoDSSInWindow")-d0, r.Converter.MIB("MPTcpExtMPTCPRetrans")-d1, err)
	}
}
