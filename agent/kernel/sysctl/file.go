// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package sysctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Open makes a Keeper that remembers in the given file. What a Keeper that
// died has left there is known to the new one. The file and its directory are
// made when there is something to remember; without that, there is no file.
func Open(file string) (*Keeper, error) {
	k := &Keeper{file: file, kept: make(map[string]map[string]*entry)}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading original settings: %w", err)
	}
	if err := json.Unmarshal(b, &k.kept); err != nil {
		return nil, fmt.Errorf("reading original settings: %s: %w", file, err)
	}
	return k, nil
}

// save brings the file up to date. When it returns, the disk has it.
func (k *Keeper) save() error {
	if !k.dirty {
		return nil
	}
	if err := k.store(); err != nil {
		return fmt.Errorf("saving original settings: %w", err)
	}
	k.dirty = false
	return nil
}

func (k *Keeper) store() error {
	dir := filepath.Dir(k.file)
	next := k.file + ".new"
	if len(k.kept) == 0 {
		for _, name := range []string{k.file, next} {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return syncDir(dir)
	}
	b, err := json.MarshalIndent(k.kept, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := writeSynced(next, append(b, '\n')); err != nil {
		return err
	}
	if err := os.Rename(next, k.file); err != nil {
		return err
	}
	return syncDir(dir)
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes a rename or removal in the directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
