package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/traffic"
)

func TestZZ(t *testing.T) {
	b := &bench{bin: "/tmp/mybin", repeat: 1}
	d, err := b.bed(context.Background(), lab.Options{Veth: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	for _, n := range []int{1, 2, 4, 16} {
		for _, size := range []int64{1000, 64 << 10} {
			r, err := d.carried().Run(context.Background(), traffic.Load{Clients: n, Bytes: size, For: 2 * time.Second})
			fmt.Println(n, size, r, err)
		}
	}
	out, _ := d.braid.Gateway.Run("nstat -az | egrep 'MPTcp|ListenDrop|ListenOver|TcpRetrans|SynRetr|FastOpen' | awk '$2>0'")
	fmt.Println(out)
	out, _ = d.braid.Converter.Run("nstat -az | egrep 'MPTcp|ListenDrop|ListenOver|TcpRetrans|SynRetr|FastOpen' | awk '$2>0'; ss -s")
	fmt.Println(out)
	fmt.Println(tail(d.braid.MCP.Log()), tail(d.braid.Agent.Log()))
}
func tail(s string) string { return s[max(0, len(s)-1500):] }
