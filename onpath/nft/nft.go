// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package nft speaks to nftables by the text that `nft -f -` takes.
package nft

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Error is a run of nft that went wrong.
type Error struct {
	Err    error
	Output string // what nft said
}

func (e *Error) Error() string {
	said, _, _ := strings.Cut(strings.TrimSpace(e.Output), "\n")
	return fmt.Sprintf("running nft: %v: %s", e.Err, said)
}

func (e *Error) Unwrap() error { return e.Err }

// Absent says that what nft was to look at is not there.
func Absent(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && strings.Contains(failed.Output, "No such file")
}

// Run runs nft with args, and input for those that read it: with "-f", "-" as one
// transaction. The error of a run that went wrong is an *Error.
func Run(ctx context.Context, input string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "nft", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil {
		return "", &Error{err, errs.String()}
	}
	return out.String(), nil
}

// headerLen is that of struct nfgenmsg, in bytes.
const headerLen = 4

// Generation is a number that changes with every change of any ruleset
// (NFT_MSG_GETGEN, kernel 3.13).
func Generation() (uint32, error) {
	const (
		getGeneration = 16
		attrID        = 1
	)
	// It is asked for each second, and the library takes 64 kB of memory for an answer. The
	// kernel has answered when it has taken the request.
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|getGeneration, 0)
	r.AddRawData([]byte{unix.AF_UNSPEC, 0, 0, 0})
	if _, err := unix.Write(fd, r.Serialize()); err != nil {
		return 0, err
	}
	var answer [512]byte
	n, _, err := unix.Recvfrom(fd, answer[:], unix.MSG_DONTWAIT)
	if err != nil {
		return 0, err
	}
	msgs, err := syscall.ParseNetlinkMessage(answer[:n])
	if err != nil || len(msgs) != 1 {
		return 0, errors.Join(errors.New("no answer"), err)
	}
	m := msgs[0]
	if m.Header.Type == unix.NLMSG_ERROR {
		return 0, unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
	}
	if len(m.Data) >= headerLen {
		attrs, err := nl.ParseRouteAttr(m.Data[headerLen:])
		if err != nil {
			return 0, err
		}
		for _, a := range attrs {
			if a.Attr.Type == attrID && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, errors.New("no generation in the answer")
}
