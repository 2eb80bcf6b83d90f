// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Command braid-mcp is the network side of braid: an RFC 8803 Transport
// Converter between the MPTCP of gateways and the TCP of servers.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"braid/mcp/config"
	"braid/mcp/server"
	"braid/transport/journal"
)

// version is set by the linker.
var version = "dev"

const usage = `usage: braid-mcp serve [-config FILE] [-listen ADDR]... [-client PREFIX]... [-log LEVEL]
       braid-mcp check [-config FILE]
       braid-mcp cookie
       braid-mcp version | --version
`

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
	exitConfig = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	if args[0] == "help" || slices.ContainsFunc(args, isHelp) {
		fmt.Fprint(stdout, usage)
		return 0
	}
	fs := flag.NewFlagSet("braid-mcp "+args[0], flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage) }
	var file string
	var listen, clients list
	var level journal.Level
	switch args[0] {
	case "serve":
		fs.Var(&listen, "listen", "address to listen at")
		fs.Var(&clients, "client", "network whose hosts are clients")
		fs.TextVar(&level, "log", level, "debug, info, warn or error")
		fallthrough
	case "check":
		fs.StringVar(&file, "config", "", "configuration, "+config.DefaultFile+" if there is one")
	case "cookie", "version", "--version":
	default:
		fmt.Fprintf(stderr, "braid-mcp: no command %q\n%s", args[0], usage)
		return exitUsage
	}
	if err := fs.Parse(args[1:]); err != nil {
		return exitUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "braid-mcp %s: unexpected %q\n%s", args[0], fs.Arg(0), usage)
		return exitUsage
	}
	switch args[0] {
	case "cookie":
		return cookie(stdout)
	case "version":
		fmt.Fprintln(stdout, version)
		return 0
	case "--version":
		fmt.Fprintln(stdout, "braid-mcp", version)
		return 0
	}
	c, err := config.Load(file, listen, clients)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitConfig
	}
	if args[0] == "check" {
		return 0
	}
	log := journal.New(stderr)
	log.SetLevel(level)
	if err := serve(ctx, c, log); err != nil {
		log.Error("serving", "error", err)
		return exitFailed
	}
	return 0
}

// isHelp says whether an argument asks how the program or a subcommand is used.
func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

func serve(ctx context.Context, c config.Config, log *journal.Log) error {
	s := server.New(c, log)
	undo, err := s.PrepareHost()
	defer undo()
	if err != nil {
		// Without the rights to do so the converter still works, on what the
		// host was given by its administrator.
		log.Warn("preparing the host", "error", err)
	}
	if c.Metrics != "" {
		go func() {
			if err := s.ServeMetrics(ctx, c.Metrics); err != nil {
				log.Error("serving metrics", "address", c.Metrics, "error", err)
			}
		}()
	}
	return s.Run(ctx)
}

func cookie(w io.Writer) int {
	b := make([]byte, 16)
	rand.Read(b) // never fails, see its documentation
	fmt.Fprintln(w, hex.EncodeToString(b))
	return 0
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}
