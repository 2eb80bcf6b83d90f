// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package journal writes what a program has to say, a line an event:
//
//	time=2026-01-02T15:04:05.000Z level=INFO msg="role set" wan=lte role=backup
//
// The lines are those of log/slog's TextHandler, which brings encoding/json
// with it: too much for the flash of a router.
package journal

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Level says how much an event matters.
type Level int32

// The levels, in rising order. Info is the zero value.
const (
	Debug Level = iota - 1
	Info
	Warn
	Error
)

var names = [...]string{"DEBUG", "INFO", "WARN", "ERROR"}

func (l Level) String() string {
	if l < Debug || l > Error {
		return fmt.Sprintf("level %d", int32(l))
	}
	return names[l-Debug]
}

// MarshalText gives the name in lower case, as configurations have it.
func (l Level) MarshalText() ([]byte, error) {
	return []byte(strings.ToLower(l.String())), nil
}

// UnmarshalText takes a level's name in either case.
func (l *Level) UnmarshalText(text []byte) error {
	for i, name := range names {
		if strings.EqualFold(name, string(text)) {
			*l = Debug + Level(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not debug, info, warn or error", text)
}

// Log is where events are written to. Its methods may be called concurrently.
// Make one with New.
type Log struct {
	level atomic.Int32

	mu     sync.Mutex
	w      io.Writer
	syslog *syslog // nil: w has all
}

// New makes a log of events of Info and above. Each is one Write; that it
// fails is not reported.
func New(w io.Writer) *Log { return &Log{w: w} }

// SetLevel leaves out events below a level from now on.
func (l *Log) SetLevel(level Level) { l.level.Store(int32(level)) }

// Enabled says whether a level is written: what is said of each connection need
// not be put together else.
func (l *Log) Enabled(level Level) bool { return level >= Level(l.level.Load()) }

// Debug writes an event of level Debug. For each of the four, args are keys,
// which are strings, and their values in turn.
func (l *Log) Debug(msg string, args ...any) { l.write(Debug, msg, args) }

// Info writes an event of level Info.
func (l *Log) Info(msg string, args ...any) { l.write(Info, msg, args) }

// Warn writes an event of level Warn.
func (l *Log) Warn(msg string, args ...any) { l.write(Warn, msg, args) }

// Error writes an event of level Error.
func (l *Log) Error(msg string, args ...any) { l.write(Error, msg, args) }

func (l *Log) write(level Level, msg string, args []any) {
	if !l.Enabled(level) {
		return
	}
	b := appendPair(nil, "msg", msg)
	for len(args) > 0 {
		key, ok := args[0].(string)
		if !ok || len(args) == 1 { // a slip of the caller's; nothing is lost by it
			b, args = appendPair(b, badKey, args[0]), args[1:]
			continue
		}
		b, args = appendPair(b, key, args[1]), args[2:]
	}
	b = append(b, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.syslog != nil && l.syslog.send(level, b) {
		return
	}
	stamp := appendPair(nil, "time", time.Now())
	stamp = append(appendPair(stamp, "level", level), ' ')
	l.w.Write(append(stamp, b...))
}
