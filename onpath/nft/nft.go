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
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|getGeneration, 0)
	r.AddRawData([]byte{unix.AF_UNSPEC, 0, 0, 0})
	msgs, err := r.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, err
	}
	for _, m := range msgs {
		if len(m) < headerLen {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[headerLen:])
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
