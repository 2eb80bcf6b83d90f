// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"braid/transport/mptcp"
)

// DefaultDir is the directory of what outlives a converter.
const DefaultDir = "/run/braid-mcp"

// originals is what was before the first change, so that a successor of a
// converter that was killed knows what is the host's.
type originals struct {
	Subflows *int             `json:",omitempty"`
	FastOpen *uint64          `json:",omitempty"`
	Replaced []mptcp.Endpoint `json:",omitempty"`
}

// lock is a file that all converters of a network namespace hold, and in which
// the originals are.
type lock struct{ *os.File }

// open joins the converters that run here.
func (h *Host) open() error {
	dir := h.Dir
	if dir == "" {
		dir = DefaultDir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keeping what was: %w", err)
	}
	ns, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return fmt.Errorf("keeping what was: %w", err)
	}
	name := fmt.Sprintf("originals-%d", ns.Sys().(*syscall.Stat_t).Ino)
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("keeping what was: %w", err)
	}
	h.lock = &lock{f}
	return errors.Join(h.join(), h.load())
}

// join takes a share in the lock, and finds out whether it is the only one.
func (h *Host) join() error {
	h.alone = h.lock.exclusive()
	if err := syscall.Flock(int(h.lock.Fd()), syscall.LOCK_SH); err != nil {
		return fmt.Errorf("keeping what was: %w", err)
	}
	return nil
}

// exclusive says whether nobody else holds the lock, which then is ours alone.
func (l *lock) exclusive() bool {
	return syscall.Flock(int(l.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

func (h *Host) load() error {
	fi, err := h.lock.Stat()
	if err != nil || fi.Size() == 0 {
		return err
	}
	b := make([]byte, fi.Size())
	if _, err := h.lock.ReadAt(b, 0); err != nil {
		return fmt.Errorf("reading what was: %w", err)
	}
	if json.Unmarshal(b, &h.saved) != nil {
		h.saved = originals{} // half written: the host lost its power, and has forgotten all
	}
	return nil
}

// save notes what is about to be changed, if change says that there is
// something to note.
func (h *Host) save(change func(*originals) bool) error {
	if h.lock == nil {
		return nil // nobody will put it back, which open has warned of
	}
	if err := h.load(); err != nil { // another converter may have written
		return err
	}
	if !change(&h.saved) {
		return nil
	}
	b, err := json.Marshal(h.saved)
	if err == nil {
		_, err = h.lock.WriteAt(b, 0)
	}
	return errors.Join(err, h.lock.Truncate(int64(len(b))))
}

// close puts back what was, unless other converters still run here.
func (h *Host) close() {
	if h.lock == nil {
		return
	}
	defer h.lock.Close()
	if !h.lock.exclusive() || h.Awaited != nil && h.Awaited() {
		return
	}
	if err := h.restore(); err != nil {
		h.Log.Warn("putting back what was", "error", err)
		return
	}
	h.lock.Truncate(0)
}

func (h *Host) restore() error {
	if err := h.load(); err != nil {
		return err
	}
	var errs []error
	if was := h.saved.Subflows; was != nil {
		if have, err := mptcp.GetLimits(); err == nil && have.Subflows == subflows {
			have.Subflows = *was
			errs = append(errs, mptcp.SetLimits(have))
		}
	}
	if was := h.saved.FastOpen; was != nil {
		if have, err := readFastOpen(); err == nil && have == *was|fastOpen {
			errs = append(errs, writeFastOpen(*was))
		}
	}
	have, err := mptcp.Endpoints()
	errs = append(errs, err)
	for _, e := range have {
		if ours(e) {
			errs = append(errs, h.withdraw(e))
		}
	}
	return errors.Join(errs...)
}
