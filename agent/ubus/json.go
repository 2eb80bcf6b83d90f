// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// JSON writes what Marshal takes as indented JSON (RFC 8259), ending with a
// newline. Its size has no limit.
func JSON(v any) ([]byte, error) {
	b, err := appendJSON(nil, reflect.ValueOf(&v), 0)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", v, err)
	}
	return append(b, '\n'), nil
}

func appendJSON(b []byte, v reflect.Value, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("nested deeper than %d", MaxDepth)
	}
	v, err := plain(v)
	if err != nil {
		return nil, err
	}
	switch v.Kind() {
	case reflect.Invalid:
		return append(b, "null"...), nil
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return strconv.AppendFloat(b, f, 'f', -1, v.Type().Bits()), nil
		}
		return nil, fmt.Errorf("%v has no JSON form", v)
	case reflect.String:
		return appendJSONString(b, v.String()), nil
	case reflect.Struct, reflect.Map:
		l := list{b: append(b, '{'), depth: depth}
		err := eachMember(v, func(name string, v reflect.Value) error {
			l.next()
			l.b = append(appendJSONString(l.b, name), ": "...)
			return l.value(v)
		})
		return l.end('}'), err
	case reflect.Slice, reflect.Array:
		l := list{b: append(b, '['), depth: depth}
		for i := range v.Len() {
			l.next()
			if err := l.value(v.Index(i)); err != nil {
				return nil, fmt.Errorf("%d: %w", i, err)
			}
		}
		return l.end(']'), nil
	}
	return nil, fmt.Errorf("%v has no form in a message", v.Type())
}

// list is an object or array that is being written, a line an element.
type list struct {
	b     []byte
	depth int // of what surrounds it
	some  bool
}

func (l *list) next() {
	if l.some {
		l.b = append(l.b, ',')
	}
	l.some = true
	l.line(l.depth + 1)
}

func (l *list) line(indent int) {
	l.b = append(l.b, '\n')
	l.b = append(l.b, strings.Repeat("\t", indent)...)
}

func (l *list) value(v reflect.Value) (err error) {
	l.b, err = appendJSON(l.b, v, l.depth+1)
	return err
}

func (l *list) end(bracket byte) []byte {
	if l.some {
		l.line(l.depth)
	}
	return append(l.b, bracket)
}

// appendJSONString leaves what is not UTF-8 to the replacement character.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < ' ':
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
