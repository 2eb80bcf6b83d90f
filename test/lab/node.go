// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Node is a network namespace of a World.
type Node struct {
	Name string // in /run/netns
	ns   netns.NsHandle
	nl   *netlink.Handle
}

func newNode(name string) (*Node, error) {
	n := &Node{Name: name}
	err := outAndBack(func() (err error) {
		n.ns, err = netns.NewNamed(name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("creating namespace %s: %w", name, err)
	}
	if n.nl, err = netlink.NewHandleAt(n.ns, unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(fmt.Errorf("opening netlink in %s: %w", name, err), n.remove())
	}
	return n, nil
}

func (n *Node) remove() error {
	if n.nl != nil {
		n.nl.Close()
	}
	return errors.Join(n.ns.Close(), netns.DeleteNamed(n.Name))
}

// Do runs f on a thread inside the namespace. Sockets that f makes stay there; goroutines that
// it starts run outside.
func (n *Node) Do(f func() error) error {
	return outAndBack(func() error {
		if err := netns.Set(n.ns); err != nil {
			return fmt.Errorf("entering %s: %w", n.Name, err)
		}
		return f()
	})
}

// outAndBack runs f on a thread of its own, whose namespace f may change.
func outAndBack(f func() error) error {
	runtime.LockOSThread()
	here, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("opening own namespace: %w", err)
	}
	defer func() {
		// A thread that cannot come back stays locked and ends with its goroutine.
		if netns.Set(here) == nil {
			runtime.UnlockOSThread()
		}
		here.Close()
	}()
	return f()
}

// Command is like exec.CommandContext, but for a process inside the namespace, with a /sys of
// its own. It leads a process group, which is killed when ctx is done. Whatever runs in a
// namespace ends when the World is closed.
func (n *Node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.Name, name}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGKILL) }
	c.WaitDelay = 5 * time.Second
	return c
}

// Run runs a shell script inside the namespace, and returns what it wrote. The error holds its
// standard error.
func (n *Node) Run(script string) (string, error) {
	out, err := n.Command(context.Background(), "sh", "-ec", script).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return string(out), fmt.Errorf("running %q in %s: %w", script, n.Name, err)
	}
	return string(out), nil
}

// Sysctl sets a key such as net.ipv4.ip_forward.
func (n *Node) Sysctl(key, value string) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
	err := n.Do(func() error { return os.WriteFile(path, []byte(value), 0) })
	if err != nil {
		return fmt.Errorf("setting %s in %s: %w", key, n.Name, err)
	}
	return nil
}

// Listen listens inside the namespace. As everywhere in Go, a TCP listener speaks MPTCP unless
// lc.SetMultipathTCP(false) says otherwise.
func (n *Node) Listen(ctx context.Context, lc net.ListenConfig, network, address string) (l net.Listener, err error) {
	err = n.Do(func() error {
		l, err = lc.Listen(ctx, network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a packet socket inside the namespace.
func (n *Node) ListenPacket(ctx context.Context, lc net.ListenConfig, network, address string) (c net.PacketConn, err error) {
	err = n.Do(func() error {
		c, err = lc.ListenPacket(ctx, network, address)
		return err
	})
	return c, err
}

// Dial dials from the namespace. The address must be numeric.
func (n *Node) Dial(ctx context.Context, d net.Dialer, network, address string) (c net.Conn, err error) {
	err = n.Do(func() error {
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}
