// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package sysctl

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
)

// Keeper sets kernel settings and remembers in a file what they were, before
// the first of them is written. It is for one goroutine, and its file for one
// network namespace.
type Keeper struct {
	file  string
	kept  map[string]map[string]*entry // by kind and key
	dirty bool                         // the file does not say what kept says
}

// Kind is a kind of setting. Read and Write return an error that wraps
// os.ErrNotExist when there is no such setting.
type Kind struct {
	Name  string // in the file
	Read  func(key string) (string, error)
	Write func(key, value string) error
}

// Setting is a setting and what it is to be, spelled as Read spells it.
type Setting struct {
	Key, Value string
}

// ChangedError says that something else changed a setting which braid had set.
// A device that went and came back between two calls looks the same.
type ChangedError struct {
	Key   string
	Want  string // what braid had set or was just about to
	Found string
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s was changed to %q by something else; it is to be %q", e.Key, e.Found, e.Want)
}

type entry struct {
	Original string
	// Ours is what may stand in the kernel by our hand, the newest last. There
	// is more than one from before a new value is written until it has been.
	Ours []string
	held bool // this process has written it or seen it to be as it should
}

// foreign says whether something else made the value what it is now. An
// original found by a new process does not count: the one before it may have
// died between saving and writing.
func (e *entry) foreign(now string) bool {
	return !slices.Contains(e.Ours, now) && (e.held || now != e.Original)
}

// Keep does for any kind of setting what Apply does for sysctls.
func (k *Keeper) Keep(kind Kind, want []Setting) error {
	var errs []error
	var differ []Setting
	wanted := make(map[string]bool)
	for _, s := range want {
		wanted[s.Key] = true
		differs, err := k.claim(kind, s)
		if differs {
			differ = append(differ, s)
		}
		errs = append(errs, err)
	}
	errs = append(errs, k.setAll(kind, differ))
	for _, key := range slices.Sorted(maps.Keys(k.kept[kind.Name])) {
		if !wanted[key] {
			errs = append(errs, k.putBack(kind, key))
		}
	}
	errs = append(errs, k.save())
	return errors.Join(errs...)
}

// claim notes what has to be known before s is written, and says whether it
// has to be written at all.
func (k *Keeper) claim(kind Kind, s Setting) (differs bool, err error) {
	now, err := kind.Read(s.Key)
	if err != nil {
		return false, k.gone(kind, s.Key, err)
	}
	e := k.kept[kind.Name][s.Key]
	switch {
	case e == nil && now == s.Value:
		return false, nil
	case e == nil:
		e = &entry{Original: now}
		k.keep(kind, s.Key, e)
	case e.foreign(now):
		err = &ChangedError{Key: s.Key, Want: s.Value, Found: now}
	}
	if n := len(e.Ours); n == 0 || e.Ours[n-1] != s.Value {
		e.Ours = append(e.Ours, s.Value)
		k.dirty = true
	}
	e.held = e.held || now == s.Value
	return now != s.Value, err
}

// setAll writes nothing unless it is known how to put it back.
func (k *Keeper) setAll(kind Kind, settings []Setting) error {
	if len(settings) == 0 {
		return nil
	}
	if err := k.save(); err != nil {
		return err
	}
	var errs []error
	for _, s := range settings {
		errs = append(errs, k.set(kind, s))
	}
	return errors.Join(errs...)
}

func (k *Keeper) set(kind Kind, s Setting) error {
	if err := kind.Write(s.Key, s.Value); err != nil {
		return k.gone(kind, s.Key, err)
	}
	e := k.kept[kind.Name][s.Key]
	e.Ours, e.held = []string{s.Value}, true
	return nil
}

// putBack restores the original, unless something else has changed the
// setting since: then that is what somebody wants.
func (k *Keeper) putBack(kind Kind, key string) error {
	e := k.kept[kind.Name][key]
	now, err := kind.Read(key)
	if err == nil && slices.Contains(e.Ours, now) && now != e.Original {
		err = kind.Write(key, e.Original)
	}
	if err != nil {
		if err = k.gone(kind, key, err); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	k.forget(kind, key)
	return nil
}

// gone forgets a setting that went with its device: when it comes back, it
// will be another one.
func (k *Keeper) gone(kind Kind, key string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		k.forget(kind, key)
	}
	return err
}

func (k *Keeper) keep(kind Kind, key string, e *entry) {
	if k.kept[kind.Name] == nil {
		k.kept[kind.Name] = make(map[string]*entry)
	}
	k.kept[kind.Name][key] = e
	k.dirty = true
}

func (k *Keeper) forget(kind Kind, key string) {
	if _, ok := k.kept[kind.Name][key]; !ok {
		return
	}
	delete(k.kept[kind.Name], key)
	if len(k.kept[kind.Name]) == 0 {
		delete(k.kept, kind.Name)
	}
	k.dirty = true
}
