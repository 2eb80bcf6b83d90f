// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package sysctl

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	if err := k.parse(string(b)); err != nil {
		return nil, fmt.Errorf("reading original settings: %s: %w", file, err)
	}
	return k, nil
}

// text is what the file holds: a line a setting, of quoted words. These are
// kind, key, original, and then what is ours.
func (k *Keeper) text() []byte {
	var b []byte
	for _, kind := range slices.Sorted(maps.Keys(k.kept)) {
		for _, key := range slices.Sorted(maps.Keys(k.kept[kind])) {
			e := k.kept[kind][key]
			for _, word := range append([]string{kind, key, e.Original}, e.Ours...) {
				b = append(strconv.AppendQuote(b, word), ' ')
			}
			b[len(b)-1] = '\n'
		}
	}
	return b
}

// parse reads what text has written.
func (k *Keeper) parse(text string) error {
	n := 0
	for line := range strings.Lines(text) {
		n++
		words, err := unquote(strings.TrimSuffix(line, "\n"))
		if err == nil && len(words) < 4 {
			err = fmt.Errorf("%d words, want kind, key, original and ours", len(words))
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		k.keep(Kind{Name: words[0]}, words[1], &entry{Original: words[2], Ours: words[3:]})
	}
	if n == 0 {
		return errors.New("it is empty") // which ours never is
	}
	k.dirty = false // the file says just this
	return nil
}

// unquote reads a line of quoted words with a space between them.
func unquote(line string) (words []string, err error) {
	for more := true; more; {
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, err
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		words = append(words, word)
		line, more = strings.CutPrefix(line[len(quoted):], " ")
	}
	if line != "" {
		return nil, fmt.Errorf("%q follows a word", line)
	}
	return words, nil
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
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := writeSynced(next, k.text()); err != nil {
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
