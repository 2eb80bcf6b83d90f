// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// secretLength is that of the keys that Add makes, in bytes.
const secretLength = 32

// path is that of a client's own file.
func (s Source) path(name string) (string, error) {
	const characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if name == "" || len(name) > 64 || name[0] == '.' || name[0] == '-' || strings.Trim(name, characters) != "" {
		return "", fmt.Errorf("%q is no name of a client: 1 to 64 letters, digits, hyphens, underscores and dots", name)
	}
	return filepath.Join(s.Dir(), name+suffix), nil
}

// Add makes a client with a file of its own, and returns its key in hex.
func (s Source) Add(name string) (key string, err error) {
	path, err := s.path(name)
	if err != nil {
		return "", err
	}
	c, err := s.Load()
	if err != nil {
		return "", err
	}
	for _, cl := range c.Clients {
		if cl.Name == name {
			return "", fmt.Errorf("there is a client %q already", name)
		}
	}
	secret := make([]byte, secretLength)
	rand.Read(secret) // never fails, see its documentation
	key = hex.EncodeToString(secret)
	if err := s.makeDir(); err != nil {
		return "", err
	}
	return key, writeNew(path, fmt.Sprintf("[[client]]\nname = %q\nkey = %q\n", name, key))
}

// makeDir makes the directory if it is not there, readable for who may read
// the configuration.
func (s Source) makeDir() error {
	err := os.Mkdir(s.Dir(), 0)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return fmt.Errorf("making directory of clients: %w", err)
	}
	if fi, err := os.Stat(s.name()); err == nil {
		// Without the right to, it keeps the maker's group.
		_ = os.Chown(s.Dir(), -1, int(fi.Sys().(*syscall.Stat_t).Gid))
	}
	return os.Chmod(s.Dir(), 0o750|os.ModeSetgid)
}

// writeNew writes a file that must not be there yet. Nobody sees a part of it.
func writeNew(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return fmt.Errorf("writing client: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(0o640), f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing client: %w", err)
	}
	return nil
}

// Remove deletes a client that has a file of its own.
func (s Source) Remove(name string) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	err = os.Remove(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c, err := s.Load()
	if err != nil {
		return err
	}
	for _, cl := range c.Clients {
		if cl.Name == name {
			return fmt.Errorf("client %q has no file in %s: take it out of %s", name, s.Dir(), s.name())
		}
	}
	return fmt.Errorf("there is no client %q: %w", name, fs.ErrNotExist)
}
