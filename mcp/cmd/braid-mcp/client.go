// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"braid/mcp/config"
	"braid/mcp/host"
	"braid/mcp/server"
)

// add makes a client and prints what its gateway is to be told, once.
func (c *command) add() int {
	conf, err := c.source.Load()
	if err != nil {
		return c.fail(err, exitConfig)
	}
	at, err := c.reachedAt(conf)
	if err != nil {
		return c.fail(err, exitFailed)
	}
	key, err := c.source.Add(c.name)
	if err != nil {
		return c.fail(err, exitFailed)
	}
	fmt.Fprintf(c.stdout, "braid://%s#%s\n", at, key)
	return c.reloadRunning()
}

func (c *command) remove() int {
	if err := c.source.Remove(c.name); err != nil {
		return c.fail(err, exitFailed)
	}
	return c.reloadRunning()
}

// reloadRunning has the converter that runs, if one does, take the change over.
func (c *command) reloadRunning() int {
	err := server.AskReload(c.socket)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		fmt.Fprintln(c.stderr, "no converter runs; the change will hold when one is started")
	case err != nil:
		return c.fail(err, exitFailed)
	}
	return 0
}

// hostName is what a name in the DNS looks like (RFC 1123 section 2.1).
var hostName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.?$`)

// reachedAt is where gateways reach this converter, HOST:PORT: as the command
// line says, else an address that is announced or public.
func (c *command) reachedAt(conf config.Config) (string, error) {
	port := strconv.Itoa(int(conf.Listen[0].Port()))
	if c.host != "" {
		host := strings.TrimSuffix(strings.TrimPrefix(c.host, "["), "]")
		if _, err := netip.ParseAddr(host); err != nil && !hostName.MatchString(host) {
			return "", fmt.Errorf("-host %q is neither an IP address nor a host name; the port is that of listen, %s", c.host, port)
		}
		return net.JoinHostPort(host, port), nil
	}
	addrs := conf.Announce
	if len(addrs) == 0 {
		if a := conf.Listen[0].Addr(); !a.IsUnspecified() {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		public, err := host.PublicAddrs()
		if err != nil {
			return "", err
		}
		addrs = public
	}
	if len(addrs) == 0 {
		return "", errors.New("this host has no public address: say with -host where gateways reach it")
	}
	return net.JoinHostPort(addrs[0].String(), port), nil
}

// list prints the clients, without their secrets.
func (c *command) list() int {
	conf, err := c.source.Load()
	if err != nil {
		return c.fail(err, exitConfig)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tKNOWN BY\tCONNECTIONS\tRATE\tEXPIRES")
	for _, cl := range conf.Clients {
		var by string
		for _, k := range []struct {
			has  bool
			name string
		}{{cl.Key != nil, "key"}, {cl.Cookie != nil, "cookie"}, {len(cl.Networks) > 0, fmt.Sprint(cl.Networks)}} {
			if k.has {
				by += " " + k.name
			}
		}
		rate, expires := "-", "never"
		if cl.Rate > 0 {
			rate = fmt.Sprintf("%d kbit/s", cl.Rate)
		}
		if !cl.Expires.IsZero() {
			expires = cl.Expires.Format(time.DateOnly)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", cl.Name, by[1:], cl.Connections, rate, expires)
	}
	w.Flush()
	return 0
}

// status prints what the converter that runs does.
func (c *command) status() int {
	st, err := server.AskStatus(c.socket)
	if err != nil {
		return c.fail(err, exitFailed)
	}
	if c.json {
		if err := writeJSON(c.stdout, st); err != nil {
			return c.fail(err, exitFailed)
		}
		return 0
	}
	fmt.Fprintf(c.stdout, "braid-mcp %s: up for %v\n", st.Version, time.Duration(st.Uptime)*time.Second)
	fmt.Fprintf(c.stdout, "connections: %d open, %d carried, %d accepted (%d without MPTCP), %d strangers waiting, %d shed, %d reset\n",
		st.Connections, st.Relayed, st.Accepted, st.AcceptedTCP, st.Strangers, st.Shed, st.Reset)
	fmt.Fprintf(c.stdout, "refused: %s\n", counts(st.Refused))
	if st.WrongCookies > 0 {
		fmt.Fprintf(c.stdout, "wrong cookies and proofs: %d\n", st.WrongCookies)
	}
	if p := st.OnPath; p != nil {
		fmt.Fprintf(c.stdout, "on the path: %d open, %d converted, %d failed, %d forwarded, %d announcements, %d joins\n",
			p.Open, p.Converted, p.Failed, p.Forwarded, p.Announced, p.Joined)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CLIENT\tCONNECTIONS\tSUBFLOWS\tCARRIED\tUP\tDOWN\tSEEN\tREFUSED")
	for _, cl := range st.Clients {
		seen := "never"
		if cl.Seen != nil {
			seen = (time.Duration(*cl.Seen) * time.Second).String() + " ago"
		}
		fmt.Fprintf(w, "%s\t%d/%d\t%d\t%d\t%s\t%s\t%s\t%s\n", cl.Name, cl.Open, cl.Limit, cl.Subflows, cl.Relayed,
			size(cl.Up), size(cl.Down), seen, counts(cl.Refused))
		for _, l := range cl.Lines {
			fmt.Fprintf(w, "  %s\t\t%d\t\t\t\t%v ago\t\n", l.Address, l.Subflows, time.Duration(l.Seen)*time.Second)
		}
	}
	if err := w.Flush(); err != nil && !errors.Is(err, os.ErrClosed) {
		return c.fail(err, exitFailed)
	}
	return 0
}

// size writes a number of bytes in three digits or so.
func size(n uint64) string {
	const units = "kMGTPE"
	v, unit := float64(n), ""
	for i := 0; v >= 1000 && i < len(units); i++ {
		v, unit = v/1000, string(units[i])
	}
	return fmt.Sprintf("%.3g %sB", v, unit)
}
