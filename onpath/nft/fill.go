// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"os"
	"strings"
)

// Values are what stands for the names in a template.
type Values struct {
	Text  map[string]string
	Lines map[string][]string // for names that stand alone on a line
}

// Fill puts values in the place of the ${names} of a template. A line that
// holds one name alone becomes as many lines as there are, or none.
// (text/template would keep every exported method of the program: a megabyte
// of a router's flash.)
func Fill(template string, v Values) string {
	var b strings.Builder
	for line := range strings.Lines(template) {
		name, alone := aloneOn(line)
		if !alone {
			b.WriteString(os.Expand(line, func(name string) string { return v.Text[name] }))
			continue
		}
		indent := line[:strings.Index(line, "$")]
		for _, l := range v.Lines[name] {
			b.WriteString(strings.TrimRight(indent+l, "\t") + "\n")
		}
	}
	return b.String()
}

// aloneOn says which name is all that a line holds.
func aloneOn(line string) (name string, ok bool) {
	name = strings.TrimSpace(line)
	ok = strings.HasPrefix(name, "${") && strings.Index(name, "}") == len(name)-1
	return strings.Trim(name, "${}"), ok
}
