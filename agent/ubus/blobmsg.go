// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// Type is the type of a value in a message (enum blobmsg_type).
type Type uint8

// The types. Null is libubox's "unspec", which JSON's null becomes.
const (
	Null Type = iota
	Array
	Table
	String
	Int64
	Int32
	Int16
	Int8
	Double

	// Bool is how libubox calls an int8.
	Bool = Int8
)

var typeNames = [...]string{"null", "array", "table", "string", "int64", "int32", "int16", "int8", "double"}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// maxName is what the 16-bit length of a name can say.
const maxName = math.MaxUint16

// A field's payload begins with its name: a 16-bit length without the NUL, the
// name, a NUL, zeros up to a multiple of four. Names in arrays are empty.
func openField(b []byte, t Type, name string) (_ []byte, at int, err error) {
	if len(name) > maxName {
		return nil, 0, fmt.Errorf("name of %d bytes", len(name))
	}
	if strings.IndexByte(name, 0) >= 0 {
		return nil, 0, fmt.Errorf("name %q has a NUL", name)
	}
	b, at = openAttr(b, uint8(t))
	b[at] |= attrNamed >> 24
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	b = append(append(b, name...), 0)
	for (len(b)-at)%4 != 0 {
		b = append(b, 0)
	}
	return b, at, nil
}

// field is one checked value of a message.
type field struct {
	typ  Type
	name string
	data []byte
}

func (a attr) field() (field, error) {
	f := field{typ: Type(a.id), data: a.data}
	if a.named {
		if len(a.data) < 2 {
			return f, fmt.Errorf("field without a name: %w", ErrParse)
		}
		n := int(binary.BigEndian.Uint16(a.data))
		if len(a.data) < align(2+n+1) || a.data[2+n] != 0 {
			return f, fmt.Errorf("name of %d bytes in a field of %d: %w", n, len(a.data), ErrParse)
		}
		f.name = string(a.data[2 : 2+n])
		f.data = a.data[align(2+n+1):]
	}
	ok := true
	switch f.typ {
	case Null, Array, Table:
	case String:
		ok = len(f.data) > 0 && f.data[len(f.data)-1] == 0
	case Int8:
		ok = len(f.data) == 1
	case Int16:
		ok = len(f.data) == 2
	case Int32:
		ok = len(f.data) == 4
	case Int64, Double:
		ok = len(f.data) == 8
	default:
		ok = false
	}
	if !ok {
		return f, fmt.Errorf("%v %q of %d bytes: %w", f.typ, f.name, len(f.data), ErrParse)
	}
	return f, nil
}

// str ends at the first NUL, as it does for every reader written in C.
func (f field) str() string {
	s, _, _ := bytes.Cut(f.data, []byte{0})
	return string(s)
}

func (f field) double() float64 {
	return math.Float64frombits(binary.BigEndian.Uint64(f.data))
}

// integer is the value of any of the integer types.
func (f field) integer() (v int64, ok bool) {
	switch f.typ {
	case Int8:
		return int64(int8(f.data[0])), true
	case Int16:
		return int64(int16(binary.BigEndian.Uint16(f.data))), true
	case Int32:
		return int64(int32(binary.BigEndian.Uint32(f.data))), true
	case Int64:
		return int64(binary.BigEndian.Uint64(f.data)), true
	}
	return 0, false
}

// find returns the first field of that name and type, as blobmsg_parse does.
func find(table []byte, name string, t Type) (field, bool) {
	for a, err := range attrs(table) {
		if err != nil {
			break
		}
		if f, err := a.field(); err == nil && f.name == name && f.typ == t {
			return f, true
		}
	}
	return field{}, false
}
