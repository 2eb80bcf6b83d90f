// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// header is the first line; another version begins otherwise.
	header = "# braid quota 1: what counts against the quotas, written by the agent"
	// maxAccounts bounds the file. WANs that are no longer configured stay in
	// it: a section may be switched off for a while.
	maxAccounts = 60
)

// formatLocked is the text of the file: a line a WAN, its name and key=value.
// A key that is a date is a period.
func (b *Book) formatLocked() string {
	var s strings.Builder
	s.WriteString(header + "\n")
	if b.saved.Boot != "" {
		fmt.Fprintf(&s, "saved boot=%s up=%d\n", b.saved.Boot, b.saved.Up/time.Second)
	}
	names := make([]string, 0, len(b.accounts))
	for name := range b.accounts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		a := b.accounts[name]
		fmt.Fprintf(&s, "wan %s day=%d current=%d undated=%d", name, a.day, a.current, a.undated)
		if a.at.Boot != "" {
			fmt.Fprintf(&s, " boot=%s up=%d wall=%d device=%s index=%d highest=%d rx=%d tx=%d",
				a.at.Boot, a.at.Up/time.Second, max(0, a.at.Wall.Unix()), a.last.Device, a.last.Index, a.last.Highest, a.last.RX, a.last.TX)
		}
		for _, e := range a.periods {
			fmt.Fprintf(&s, " %d=%d", e.begin, e.bytes)
		}
		s.WriteByte('\n')
	}
	return s.String()
}

// parse takes what a file says. Lines that make no sense are passed over, and
// the error names the first of them.
func (b *Book) parse(text string, now Moment) error {
	first, rest, _ := strings.Cut(text, "\n")
	if first != header {
		return errors.New("not a file of this version")
	}
	var failed error
	for n := 2; rest != ""; n++ {
		line, after, whole := strings.Cut(rest, "\n")
		err := errors.New("cut off")
		if whole {
			err = b.parseLine(strings.Fields(line), now)
		}
		if err != nil && failed == nil {
			failed = fmt.Errorf("line %d: %w", n, err)
		}
		rest = after
	}
	return failed
}

func (b *Book) parseLine(words []string, now Moment) error {
	switch {
	case len(words) < 2:
		return errors.New("too short")
	case words[0] == "saved":
		var a account
		if err := a.parse(words[1:]); err != nil {
			return err
		}
		// After a boot the hour begins anew: one that boots often shall not
		// write as often.
		if a.at.Boot == now.Boot && a.at.Up <= now.Up {
			b.saved = a.at
		}
		return nil
	case words[0] == "wan" && len(b.accounts) < maxAccounts:
		a := &account{level: -1}
		if err := a.parse(words[2:]); err != nil {
			return err
		}
		b.accounts[words[1]] = a
		return nil
	}
	return fmt.Errorf("unexpected %q", words[0])
}

func (a *account) parse(words []string) error {
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return fmt.Errorf("%q is not key=value", word)
		}
		switch key {
		case "boot":
			a.at.Boot = value
			continue
		case "device":
			a.last.Device = value
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		switch key {
		case "day":
			a.day = int(n)
		case "current":
			a.current = date(n)
		case "undated":
			a.undated = n
		case "up":
			a.at.Up = time.Duration(n) * time.Second
		case "wall":
			a.at.Wall = time.Unix(int64(n), 0)
		case "index":
			a.last.Index = int(n)
		case "highest":
			a.last.Highest = int(n)
		case "rx":
			a.last.RX = n
		case "tx":
			a.last.TX = n
		default:
			begin, err := strconv.Atoi(key)
			if err != nil {
				return fmt.Errorf("unknown key %q", key)
			}
			a.put(date(begin), n)
		}
	}
	return nil
}
