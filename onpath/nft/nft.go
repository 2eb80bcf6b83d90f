// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package nft speaks to nftables by the text that `nft -f -` takes.
package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
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
