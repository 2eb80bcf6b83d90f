// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Command braid-mcp is the network side of braid: an RFC 8803 Transport
// Converter between the MPTCP of gateways and the TCP of servers.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"braid/mcp/config"
	"braid/transport/journal"
)

// version is set by the linker.
var version = "dev"

const usage = `usage: braid-mcp serve [-config FILE] [-listen ADDR]... [-client PREFIX]... [-log LEVEL] [-socket PATH]
       braid-mcp check [-config FILE]
       braid-mcp add [-config FILE] [-host HOST] [-socket PATH] NAME
       braid-mcp remove [-config FILE] [-socket PATH] NAME
       braid-mcp list [-config FILE]
       braid-mcp status [-json] [-socket PATH]
       braid-mcp cookie
       braid-mcp version | --version
`

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
	exitConfig = 3
)

// defaultSocket is where the converter that runs answers the other commands.
const defaultSocket = "/run/braid-mcp/control"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// command is what the command line asks for.
type command struct {
	source config.Source
	level  *journal.Level // nil: the file's
	socket string
	host   string
	json   bool
	name   string

	stdout, stderr io.Writer
}

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	if args[0] == "help" || slices.ContainsFunc(args, isHelp) {
		fmt.Fprint(stdout, usage)
		return 0
	}
	c := command{stdout: stdout, stderr: stderr}
	fs := flag.NewFlagSet("braid-mcp "+args[0], flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage) }
	file := func() {
		fs.StringVar(&c.source.File, "config", "", "configuration, "+config.DefaultFile+" if there is one")
	}
	socket := func() {
		fs.StringVar(&c.socket, "socket", defaultSocket, "where the converter that runs answers")
	}
	var do func() int
	names := 0
	switch args[0] {
	case "serve":
		file()
		socket()
		fs.Var((*list)(&c.source.Listen), "listen", "address to listen at")
		fs.Var((*list)(&c.source.Networks), "client", "network whose hosts are clients")
		fs.Func("log", "debug, info, warn or error", func(s string) error {
			c.level = new(journal.Level)
			return c.level.UnmarshalText([]byte(s))
		})
		do = c.serve
	case "check":
		file()
		do = c.check
	case "add":
		file()
		socket()
		fs.StringVar(&c.host, "host", "", "name or address at which gateways reach this host")
		do, names = c.add, 1
	case "remove":
		file()
		socket()
		do, names = c.remove, 1
	case "list":
		file()
		do = c.list
	case "status":
		socket()
		fs.BoolVar(&c.json, "json", false, "as JSON")
		do = c.status
	case "cookie":
		do = c.cookie
	case "version":
		do = func() int {
			fmt.Fprintln(stdout, version)
			return 0
		}
	case "--version":
		do = func() int {
			fmt.Fprintln(stdout, "braid-mcp", version)
			return 0
		}
	default:
		fmt.Fprintf(stderr, "braid-mcp: no command %q\n%s", args[0], usage)
		return exitUsage
	}
	if err := fs.Parse(args[1:]); err != nil {
		return exitUsage
	}
	switch {
	case fs.NArg() > names:
		fmt.Fprintf(stderr, "braid-mcp %s: unexpected %q\n%s", args[0], fs.Arg(names), usage)
		return exitUsage
	case fs.NArg() < names:
		fmt.Fprintf(stderr, "braid-mcp %s: no name is given\n%s", args[0], usage)
		return exitUsage
	}
	c.name = fs.Arg(0)
	return do()
}

// isHelp says whether an argument asks how the program or a subcommand is used.
func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// fail reports an error.
func (c *command) fail(err error, status int) int {
	fmt.Fprintln(c.stderr, err)
	return status
}

func (c *command) check() int {
	conf, err := c.source.LoadToServe()
	if err != nil {
		return c.fail(err, exitConfig)
	}
	for _, w := range conf.Warnings {
		fmt.Fprintln(c.stderr, w)
	}
	return 0
}

func (c *command) cookie() int {
	b := make([]byte, 16)
	rand.Read(b) // never fails, see its documentation
	fmt.Fprintln(c.stdout, hex.EncodeToString(b))
	return 0
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}
