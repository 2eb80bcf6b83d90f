// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// SaveInterval is how often a Book's file is written at most: flash wears. A
// power cut loses what was carried since.
const SaveInterval = time.Hour

// Book keeps the accounts of WANs, by name, in a file. It is safe for use by
// several goroutines.
type Book struct {
	path string

	mu       sync.Mutex
	accounts map[string]*account
	dirty    bool
	saved    Moment // the file is not to be written sooner than SaveInterval after; zero: at once
}

// Open reads the book at path; where there is none it begins an empty one.
// With an error the book is whatever could be read, and can be used.
func Open(path string, now Moment) (*Book, error) {
	b := &Book{path: path, accounts: make(map[string]*account)}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	b.saved = now
	if err == nil {
		err = b.parse(string(text), now)
	}
	if err != nil {
		return b, fmt.Errorf("reading what counts against quotas: %w", err)
	}
	return b, nil
}

// Count notes a reading of a WAN's device. The level is one of Levels if the
// WAN has reached that since the last reading, else 0.
func (b *Book) Count(now Moment, wan string, t Tariff, r Reading) (level int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accountLocked(wan)
	b.dirty = true
	return a.count(now, t, r)
}

// SetUsed says how much of its quota a WAN has used, and saves that. What is
// carried from now on is added.
func (b *Book) SetUsed(now Moment, wan string, bytes uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accountLocked(wan).setUsed(bytes)
	b.dirty = true
	return b.saveLocked(now)
}

func (b *Book) accountLocked(wan string) *account {
	a := b.accounts[wan]
	if a == nil {
		a = &account{level: -1}
		b.accounts[wan] = a
	}
	return a
}

// Usage is how a WAN stands.
func (b *Book) Usage(now time.Time, wan string, t Tariff) Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := Usage{Resets: t.resets(now)}
	if a := b.accounts[wan]; a != nil {
		u.Used = a.used()
	}
	return u
}

// Used is how many bytes count against a WAN's quota now.
func (b *Book) Used(wan string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.accounts[wan]; a != nil {
		return a.used()
	}
	return 0
}

// SaveIfDue saves if that has not been done for SaveInterval.
func (b *Book) SaveIfDue(now Moment) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.saved.Boot != "" && now.Up-b.saved.Up < SaveInterval {
		return nil
	}
	return b.saveLocked(now)
}

// Save writes the file unless it would say nothing new.
func (b *Book) Save(now Moment) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.saveLocked(now)
}

func (b *Book) saveLocked(now Moment) error {
	if !b.dirty {
		return nil
	}
	b.saved = now // also if it fails: it would fail again
	if err := replace(b.path, b.formatLocked()); err != nil {
		return fmt.Errorf("writing what counts against quotas: %w", err)
	}
	b.dirty = false
	return nil
}

// replace writes a file so that whatever happens it is the old or the new one.
func replace(path, text string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(path + ".new") // one that was left behind is used up by this
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
