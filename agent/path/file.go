// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package path

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// LoadFile adds what SaveFile has written; no file is no error.
func (m *Memory) LoadFile(name string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return m.Load(f)
}

// SaveFile writes all that is known to a file, which is never half written; its
// directory is made.
func (m *Memory) SaveFile(name string) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // once it is renamed there is none
	if err := errors.Join(m.Save(f), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
