// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	// timeFormat is that of RFC 3339 with milliseconds.
	timeFormat = "2006-01-02T15:04:05.000Z07:00"
	// badKey stands where a key is missing.
	badKey = "!BADKEY"
)

// appendPair appends a key and its value, with a space before them unless they
// are the first.
func appendPair(b []byte, key string, value any) []byte {
	if len(b) > 0 {
		b = append(b, ' ')
	}
	b = appendText(b, key)
	return appendText(append(b, '='), text(value))
}

// text puts a value into words: in its own if it has some.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case Level:
		return v.String()
	case time.Time:
		return v.Format(timeFormat)
	case encoding.TextMarshaler:
		b, err := v.MarshalText()
		if err != nil {
			return "!ERROR:" + err.Error()
		}
		return string(b)
	}
	return fmt.Sprintf("%+v", value)
}

// appendText appends a word as it is and quotes everything else.
func appendText(b []byte, s string) []byte {
	if isWord(s) {
		return append(b, s...)
	}
	return strconv.AppendQuote(b, s)
}

// isWord says whether it can be told where s ends, and the screen shows it.
func isWord(s string) bool {
	for _, r := range s {
		if r == ' ' || r == '=' || r == '"' || r == utf8.RuneError || !strconv.IsPrint(r) {
			return false
		}
	}
	return s != ""
}
