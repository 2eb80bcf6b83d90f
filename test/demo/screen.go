// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mbpsPerCell is how much one character of a bar stands for.
const mbpsPerCell = 2.5

// Colours of ECMA-48; empty where nobody looks.
const (
	bold  = "\x1b[1m"
	green = "\x1b[32m"
	blue  = "\x1b[34m"
	plain = "\x1b[0m"
)

// screen prints the story, with colours if it is a terminal.
type screen struct {
	w      io.Writer
	fail   func(error) // is told when nobody reads any more
	colour bool
	start  time.Time
}

func newScreen(f *os.File, fail func(error)) *screen {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return &screen{w: f, fail: fail, colour: err == nil && os.Getenv("NO_COLOR") == "", start: time.Now()}
}

func (s *screen) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(s.w, format, args...); err != nil {
		s.fail(fmt.Errorf("telling the story: %w", err))
	}
}

func (s *screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return colour + text + plain
}

// say prints a sentence.
func (s *screen) say(text string) { s.printf("%s\n", text) }

// part prints what happens from now on.
func (s *screen) part(text string) { s.printf("\n%s\n", s.paint(bold, text)) }

// second prints what a second brought.
func (s *screen) second(r rates) {
	s.printf("%3.0fs  fixed %s %4.1f  cellular %s %4.1f  together %s Mbit/s\n",
		time.Since(s.start).Seconds(),
		s.paint(green, bar(r.fixed, 50)), r.fixed,
		s.paint(blue, bar(r.cellular, 20)), r.cellular,
		s.paint(bold, fmt.Sprintf("%4.1f", r.together)))
}

// bar draws a value, at most full, so that all bars of a line are as long.
func bar(value, full float64) string {
	cells := int(full / mbpsPerCell)
	n := min(cells, int(math.Round(value/mbpsPerCell)))
	return strings.Repeat("█", n) + strings.Repeat("·", cells-n)
}
