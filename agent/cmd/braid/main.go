// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Command braid is the gateway agent and its command line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"braid/agent/config"
	"braid/agent/daemon"
	"braid/agent/ubus"
	"braid/agent/uci"
	"braid/transport/journal"
)

// version is set by the linker.
var version = "dev"

const usage = `usage: braid agent [-uci DIR] [-ubus SOCKET] [-standalone] [-syslog]
       braid check [-uci DIR]
       braid status [-json] [-ubus SOCKET]
       braid wans [-json] [-ubus SOCKET]
       braid connections [-json] [-limit N] [-ubus SOCKET]
       braid explain DEST[:PORT] [-json] [-ubus SOCKET]
       braid watch [-ubus SOCKET]
       braid pair braid://HOST:PORT#KEY
       braid version | --version
`

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitConfig = 3
)

// defaultUCI is where OpenWrt keeps configurations.
const defaultUCI = "/etc/config"

// defaultState holds what must survive a crash of the agent, not a reboot.
const defaultState = "/var/run/braid"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is a subcommand; it answers with an exit status.
type command func(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int

var commands = map[string]command{
	"agent":       agent,
	"check":       check,
	"status":      query,
	"wans":        query,
	"connections": query,
	"explain":     query,
	"watch":       watch,
	"pair":        pair,
	"version":     showVersion,
	"--version":   showVersion,
}

// showVersion prints the version alone, and as programs do that are asked for it
// with two dashes.
func showVersion(_ context.Context, name string, args []string, stdout, stderr io.Writer) int {
	if _, ok := parse(flags(name, stderr), args, 0); !ok {
		return exitUsage
	}
	if name == "--version" {
		fmt.Fprint(stdout, "braid ")
	}
	fmt.Fprintln(stdout, version)
	return exitOK
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	if args[0] == "help" || slices.ContainsFunc(args, isHelp) {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	c, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "braid: no command %q\n%s", args[0], usage)
		return exitUsage
	}
	return c(ctx, args[0], args[1:], stdout, stderr)
}

// isHelp says whether an argument asks how the program or a subcommand is used.
func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

func flags(name string, stderr io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("braid "+name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage) }
	return fs
}

// parse takes flags before and after the arguments, of which there are at
// most max.
func parse(fs *flag.FlagSet, args []string, max int) (rest []string, ok bool) {
	for {
		if fs.Parse(args) != nil {
			return nil, false
		}
		if fs.NArg() == 0 {
			return rest, true
		}
		if rest = append(rest, fs.Arg(0)); len(rest) > max {
			fmt.Fprintf(fs.Output(), "%s: unexpected %q\n%s", fs.Name(), fs.Arg(0), usage)
			return nil, false
		}
		args = fs.Args()[1:]
	}
}

func agent(ctx context.Context, name string, args []string, _, stderr io.Writer) int {
	o := daemon.Options{Version: version, State: defaultState}
	f := flags(name, stderr)
	f.StringVar(&o.UCI, "uci", defaultUCI, "directory of the configuration")
	f.StringVar(&o.Ubus, "ubus", ubus.DefaultSocket, "socket of ubus")
	f.BoolVar(&o.Standalone, "standalone", false, "serve that socket")
	toSyslog := f.Bool("syslog", false, "log to syslog, while it listens")
	if _, ok := parse(f, args, 0); !ok {
		return exitUsage
	}
	log := journal.New(stderr)
	if *toSyslog {
		log = journal.NewSyslog(journal.SyslogSocket, "braid", stderr)
	}
	hupC, signalC := make(chan struct{}), make(chan os.Signal, 1)
	signal.Notify(signalC, syscall.SIGHUP) // before anything else: it would end us
	go func() {
		for range signalC {
			hupC <- struct{}{}
		}
	}()
	if err := daemon.New(o, log).Run(ctx, secondStop(), hupC); err != nil {
		log.Error("agent", "error", err)
		return exitFailed
	}
	return exitOK
}

// secondStop ends with the second signal that ends this program; the first is
// what main has made its context of.
func secondStop() context.Context {
	signalC := make(chan os.Signal, 2)
	signal.Notify(signalC, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-signalC
		<-signalC
		cancel()
	}()
	return ctx
}

func check(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int {
	var dir string
	f := flags(name, stderr)
	f.StringVar(&dir, "uci", defaultUCI, "directory of the configuration")
	if _, ok := parse(f, args, 0); !ok {
		return exitUsage
	}
	p, err := uci.Load(dir, "braid")
	var syntax *uci.SyntaxError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(stderr, "braid check: %s: no such file\n", filepath.Join(dir, "braid"))
		return exitFailed
	case errors.As(err, &syntax):
		fmt.Fprintln(stdout, err)
		return exitConfig
	case err != nil:
		fmt.Fprintln(stderr, "braid check:", err)
		return exitFailed
	}
	_, problems := config.Parse(p)
	for _, problem := range problems {
		if problem.Warning {
			problem.Message += " (a warning)"
		}
		fmt.Fprintln(stdout, problem)
	}
	if problems.Err() != nil {
		return exitConfig
	}
	return exitOK
}
