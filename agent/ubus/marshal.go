// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
)

// Data is an encoded table: the arguments, answer or payload of a message.
type Data []byte

// Unmarshal is the function of that name.
func (d Data) Unmarshal(v any) error { return Unmarshal(d, v) }

var (
	dataType = reflect.TypeFor[Data]()
	textType = reflect.TypeFor[encoding.TextMarshaler]()
	jsonType = reflect.TypeFor[interface{ MarshalJSON() ([]byte, error) }]()
)

// hasText tells whether t is written as a string by its own method.
func hasText(t reflect.Type) bool { return t.Implements(textType) }

// Marshal encodes a struct, a map with string keys, or a pointer to one, by the
// rules of the package comment. Nil is the empty table, a Data is taken as it
// is. It is an error to be larger than MaxMessage or nested deeper than
// MaxDepth.
func Marshal(v any) (Data, error) {
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer || rv.Kind() == reflect.Interface {
		rv = rv.Elem()
	}
	if !rv.IsValid() {
		return Data{}, nil
	}
	if rv.Type() == dataType {
		return rv.Interface().(Data), nil
	}
	if rv.Kind() != reflect.Struct && rv.Kind() != reflect.Map || hasText(rv.Type()) {
		return nil, fmt.Errorf("encoding %v: a message is a struct or a map", rv.Type())
	}
	b, err := appendTable(nil, rv, 1)
	if err != nil {
		return nil, fmt.Errorf("encoding %v: %w", rv.Type(), err)
	}
	if len(b)+attrHeader > MaxMessage {
		return nil, fmt.Errorf("encoding %v: %d bytes, a message has at most %d", rv.Type(), len(b), MaxMessage)
	}
	return b, nil
}

// appendTable appends what is in the struct or map.
func appendTable(b []byte, v reflect.Value, depth int) ([]byte, error) {
	err := eachMember(v, func(name string, v reflect.Value) (err error) {
		b, err = appendValue(b, name, v, depth)
		return err
	})
	return b, err
}

// eachMember calls fn with what is in the struct or map, in the order of the
// fields or of the keys.
func eachMember(v reflect.Value, fn func(name string, v reflect.Value) error) error {
	if v.Kind() == reflect.Struct {
		l, err := layoutOf(v.Type())
		if err != nil {
			return err
		}
		for _, m := range l.members {
			fv := v.FieldByIndex(m.index)
			if m.omits(fv) {
				continue
			}
			if err := fn(m.name, fv); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
		return nil
	}
	if v.Type().Key().Kind() != reflect.String || hasText(v.Type().Key()) {
		return fmt.Errorf("%v has keys that are no strings", v.Type())
	}
	values := make(map[string]reflect.Value, v.Len())
	for it := v.MapRange(); it.Next(); {
		values[it.Key().String()] = it.Value()
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := fn(name, values[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// plain follows pointers and interfaces, and puts a string in the place of
// what has a text form. What is null becomes the zero Value.
func plain(v reflect.Value) (reflect.Value, error) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return reflect.Value{}, nil
		}
		if hasText(v.Type()) && v.Kind() == reflect.Pointer {
			break
		}
		v = v.Elem()
	}
	t := v.Type()
	switch {
	case hasText(t):
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		return reflect.ValueOf(string(text)), err
	case t.Implements(jsonType):
		return v, fmt.Errorf("%v has a JSON form of its own", t)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return v, fmt.Errorf("%v has no form in a message", t)
	case (t.Kind() == reflect.Map || t.Kind() == reflect.Slice) && v.IsNil():
		return reflect.Value{}, nil
	}
	return v, nil
}

func appendValue(b []byte, name string, v reflect.Value, depth int) ([]byte, error) {
	v, err := plain(v)
	if err != nil {
		return nil, err
	}
	switch v.Kind() {
	case reflect.Invalid:
		return appendField(b, Null, name, nil)
	case reflect.Bool:
		if v.Bool() {
			return appendField(b, Bool, name, []byte{1})
		}
		return appendField(b, Bool, name, []byte{0})
	case reflect.Int8, reflect.Int16, reflect.Int32:
		return appendInt(b, name, v.Int(), false)
	case reflect.Int, reflect.Int64:
		return appendInt(b, name, v.Int(), v.Kind() == reflect.Int64)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if v.Uint() > math.MaxInt64 {
			return nil, fmt.Errorf("%d is more than an int64", v.Uint())
		}
		return appendInt(b, name, int64(v.Uint()), v.Kind() == reflect.Uint64)
	case reflect.Float32, reflect.Float64:
		f := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("%v has no JSON form", f)
		}
		return appendField(b, Double, name, binary.BigEndian.AppendUint64(nil, math.Float64bits(f)))
	case reflect.String:
		return appendString(b, name, v.String())
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Array:
		return appendNested(b, name, v, depth+1)
	}
	return nil, fmt.Errorf("%v has no form in a message", v.Type())
}

func appendNested(b []byte, name string, v reflect.Value, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("nested deeper than %d", MaxDepth)
	}
	typ := Table
	if k := v.Kind(); k == reflect.Slice || k == reflect.Array {
		typ = Array
	}
	b, at, err := openField(b, typ, name)
	if err != nil {
		return nil, err
	}
	if typ == Table {
		b, err = appendTable(b, v, depth)
	} else {
		for i := range v.Len() {
			if b, err = appendValue(b, "", v.Index(i), depth); err != nil {
				err = fmt.Errorf("%d: %w", i, err)
				break
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return closeAttr(b, at), nil
}

func appendField(b []byte, t Type, name string, data []byte) ([]byte, error) {
	b, at, err := openField(b, t, name)
	if err != nil {
		return nil, err
	}
	return closeAttr(append(b, data...), at), nil
}

func appendString(b []byte, name, s string) ([]byte, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return nil, fmt.Errorf("%q has a NUL", s)
	}
	return appendField(b, String, name, append([]byte(s), 0))
}

func appendInt(b []byte, name string, v int64, wide bool) ([]byte, error) {
	if wide || int64(int32(v)) != v {
		return appendField(b, Int64, name, binary.BigEndian.AppendUint64(nil, uint64(v)))
	}
	return appendField(b, Int32, name, binary.BigEndian.AppendUint32(nil, uint32(v)))
}
