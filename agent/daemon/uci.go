// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"braid/agent/ubus"
	"braid/agent/uci"
)

const (
	// uciDir is the one directory that rpcd reads, uciPending where the uci
	// command keeps what has not been committed (rpcd, uci.c; libuci, uci.h).
	uciDir     = "/etc/config"
	uciPending = "/tmp/.uci"
	// uciTimeout bounds one question to rpcd: the loop waits for the answer.
	uciTimeout = 2 * time.Second
)

// LibUCI asks libuci for what is configured in dir, by way of rpcd on the ubus
// at socket. It is nil for a directory that rpcd does not read.
func LibUCI(dir, socket string) uci.Fallback {
	if filepath.Clean(dir) != uciDir {
		return nil
	}
	return libuci{socket: socket, pending: uciPending}
}

type libuci struct{ socket, pending string }

// Package implements uci.Fallback. rpcd merges what has been changed and not
// committed, so as long as there is such a thing there is no answer.
func (l libuci) Package(ctx context.Context, name string) ([]uci.Section, error) {
	ctx, cancel := context.WithTimeout(ctx, uciTimeout)
	defer cancel()
	if err := l.committed(name); err != nil {
		return nil, err
	}
	// The daemon's own connection may not be there yet.
	client, err := ubus.Dial(ctx, l.socket)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var answer struct {
		Values map[string]any `json:"values"`
	}
	if err := client.Call(ctx, "uci", "get", map[string]string{"config": name}, &answer); err != nil {
		return nil, err
	}
	if err := l.committed(name); err != nil {
		return nil, err
	}
	return uci.FromValues(answer.Values)
}

// committed is nil if there are no uncommitted changes of a package.
func (l libuci) committed(name string) error {
	path := filepath.Join(l.pending, name)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking for uncommitted changes: %w", err)
	case info.Size() > 0:
		return fmt.Errorf("%s holds uncommitted changes: uci commit %s, or uci revert %s", path, name, name)
	}
	return nil
}
