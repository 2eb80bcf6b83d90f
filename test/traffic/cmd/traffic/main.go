// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Command traffic measures connections between two namespaces or machines by hand.
//
//	traffic serve -listen :5001                     TCP, MPTCP with -mptcp, and UDP echo
//	traffic download|upload|echo -bytes 1e9 ADDR    one transfer, with a live line
//	traffic download -for 10s -mptcp ADDR
//	traffic load -clients 16 -bytes 1000 -for 10s ADDR
//	traffic stream -count 500 -interval 20ms -bytes 160 ADDR
//	traffic identify ADDR                           whom the server sees
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"time"

	"braid/test/traffic"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("which of serve, download, upload, echo, load, stream, identify?")
	}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	listen := fs.String("listen", ":5001", "address to serve")
	mptcp := fs.Bool("mptcp", false, "speak MPTCP")
	size := fs.Float64("bytes", 0, "size of a transfer or packet; 0: until -for ends")
	length := fs.Duration("for", 0, "ends the transfer; 0: never")
	interval := fs.Duration("interval", time.Second, "of the live line, or between packets")
	clients := fs.Int("clients", 16, "of a load")
	count := fs.Int("count", 100, "packets of a stream")
	if err := fs.Parse(args[1:]); err != nil {
		return flag.ErrHelp
	}

	var dialer net.Dialer
	dialer.SetMultipathTCP(*mptcp)
	dial := traffic.Dial(func(ctx context.Context) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", fs.Arg(0))
	})
	ops := map[string]traffic.Op{"download": traffic.Download, "upload": traffic.Upload, "echo": traffic.Echo}
	switch cmd := args[0]; cmd {
	case "serve":
		return serve(ctx, *listen, *mptcp)
	case "download", "upload", "echo":
		r := traffic.Request{Bytes: int64(*size), For: *length, Interval: *interval, Live: live}
		if r.Bytes == 0 {
			r.Bytes = traffic.Endless
		}
		report, err := dial.Do(ctx, ops[cmd], r)
		fmt.Println(report)
		return err
	case "load":
		report, err := dial.Run(ctx, traffic.Load{Clients: *clients, Bytes: int64(*size), For: *length})
		fmt.Println(report)
		return err
	case "stream":
		c, err := dialer.DialContext(ctx, "udp", fs.Arg(0))
		if err != nil {
			return err
		}
		defer c.Close()
		report, err := traffic.Stream{Count: *count, Interval: *interval, Size: int(*size)}.Run(ctx, c)
		fmt.Println(report)
		return err
	case "identify":
		peer, err := dial.Identify(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("remote %v, local %v, mptcp %v\n", peer.Remote, peer.Local, peer.MPTCP)
		return nil
	}
	return fmt.Errorf("command %q is unknown", args[0])
}

func serve(ctx context.Context, address string, mptcp bool) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(mptcp)
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	s := traffic.Serve(l)
	defer s.Close()
	pc, err := lc.ListenPacket(ctx, "udp", address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { pc.Close() })()
	fmt.Println("serving", l.Addr())
	return traffic.ServeUDP(pc)
}

func live(i traffic.Interval) {
	fmt.Printf("%7.1fs  %9.2f Mbit/s\n", i.To.Seconds(), i.Rate()/1e6)
}
