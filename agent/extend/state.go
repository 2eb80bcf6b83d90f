// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package extend

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"braid/agent/plan"
	"braid/onpath/conntrack"
	"braid/onpath/lend"
)

// leisure is how many times as long as it took to write the file it stays as it
// is.
const leisure = 100

// saveNow writes the file if something has changed, and it is time.
func (e *Extender) saveNow(now time.Time) {
	if now.Before(e.notBefore) {
		return
	}
	if err := e.save(); err != nil {
		e.log.Debug("saving which connections are open", "file", e.file, "error", err)
	}
	e.notBefore = now.Add(leisure * time.Since(now))
}

// save writes the connections to the file, with their keys: it is root's alone, who
// can see them in the handshakes as well, and in memory (tmpfs).
func (e *Extender) save() error {
	var text []byte
	changed := false
	e.lender.Do(func(*lend.Table) {
		if changed = e.changed; !changed {
			return
		}
		e.changed = false
		for c := range e.known {
			text, _ = c.AppendText(text) // it has no errors
			text = append(text, '\n')
		}
	})
	if !changed {
		return nil
	}
	part := e.file + ".new"
	if err := os.MkdirAll(filepath.Dir(e.file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(part, text, 0o600); err != nil {
		return err
	}
	return os.Rename(part, e.file)
}

// restore goes on with what an earlier agent has saved, as far as connection
// tracking knows it still.
func (e *Extender) restore() error {
	text, err := os.ReadFile(e.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now := time.Now()
	isOpen := func(f lend.Flow) bool { return e.isOpen(f, true) }
	return e.lender.Restore(text, isOpen, func(c *lend.Connection) {
		k := e.know(c, 0, now)
		e.changed = true
		for _, f := range c.Flows() {
			entry, err := conntrack.Find(f.Client, f.Server)
			wan := entry.Mark & plan.MarkWAN
			switch {
			case err != nil: // just now
			case f == c.First:
				k.first = wan
				if wan == 0 { // it goes by none of ours any more
					delete(e.known, c)
					return
				}
			case f.Server.Addr() != c.First.Server.Addr() && e.ports.set(now, f.Server.Port(), far{c.First.Server, wan}):
				k.extended = true
			}
		}
		e.log.Debug("known again", "src", c.First.Client, "dst", c.First.Server, "subflows", len(c.Flows()))
	})
}
