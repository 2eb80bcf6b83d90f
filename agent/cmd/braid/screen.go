// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// columns is how wide lines may be.
const columns = 80

// Colours, as numbers of SGR (ECMA-48).
const (
	plain  = 0
	bold   = 1
	red    = 31
	green  = 32
	yellow = 33
)

// screen is text to be shown, in lines of at most 80 columns.
type screen struct {
	bytes.Buffer
	colour bool
}

// colourful says whether colours are wanted: on a terminal, unless NO_COLOR
// is set.
func colourful(w io.Writer) bool {
	return terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// line adds a line, which is cut if it is too long.
func (s *screen) line(format string, args ...any) {
	s.paint(plain, clip(fmt.Sprintf(format, args...), columns))
	s.WriteByte('\n')
}

// text adds text in as many lines as it takes.
func (s *screen) text(colour int, text string) {
	for _, part := range wrap(text, columns) {
		s.paint(colour, part)
		s.WriteByte('\n')
	}
}

func (s *screen) paint(colour int, text string) {
	if !s.colour || colour == plain {
		s.WriteString(text)
		return
	}
	fmt.Fprintf(s, "\x1b[%dm%s\x1b[m", colour, text)
}

// clip cuts text to a width, counted in runes.
func clip(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// wrap breaks text at blanks into lines of a width; what follows the first is
// indented.
func wrap(text string, width int) (lines []string) {
	const indent = "  "
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) > width:
			lines = append(lines, clip(line, width))
			line = indent + word
		default:
			line += " " + word
		}
	}
	return append(lines, clip(line, width))
}

// column is one column of a table.
type column struct {
	head   string
	right  bool // aligned
	colour func(text string) int
}

// gap is between columns, narrowest is how narrow one can be made.
const (
	gap       = 2
	narrowest = 6
)

// table shows rows below the heads of their columns. When it would be too wide
// the widest columns are cut.
func (s *screen) table(cols []column, rows [][]string) {
	widths := make([]int, len(cols))
	total := gap * (len(cols) - 1)
	for i, c := range cols {
		widths[i] = utf8.RuneCountInString(c.head)
		for _, r := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i]))
		}
		total += widths[i]
	}
	for ; total > columns; total-- {
		i := slices.Index(widths, slices.Max(widths))
		if widths[i] <= narrowest {
			break
		}
		widths[i]--
	}
	heads := make([]string, len(cols))
	for i, c := range cols {
		heads[i] = c.head
	}
	s.row(cols, widths, heads, func(int) int { return bold })
	for _, r := range rows {
		s.row(cols, widths, r, func(i int) int {
			if cols[i].colour == nil {
				return plain
			}
			return cols[i].colour(r[i])
		})
	}
}

func (s *screen) row(cols []column, widths []int, cells []string, colour func(i int) int) {
	for i, c := range cols {
		text := clip(cells[i], widths[i])
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
		last := i == len(cols)-1
		if c.right {
			s.WriteString(pad)
		}
		s.paint(colour(i), text)
		if !c.right && !last {
			s.WriteString(pad)
		}
		if !last {
			s.WriteString(strings.Repeat(" ", gap))
		}
	}
	s.WriteByte('\n')
}

// stateColour is that of a state of anything.
func stateColour(state string) int {
	switch state {
	case "up", "ok":
		return green
	case "degraded":
		return yellow
	case "down", "refused":
		return red
	}
	return plain
}
