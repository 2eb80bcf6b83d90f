// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"encoding"
	"fmt"
	"reflect"
)

// Unmarshal decodes a table into v, a pointer to a struct, to a map with string
// keys or to an any. What the struct has no field for is passed over, of equal
// names the first counts, null leaves the zero value. Errors are ErrParse for a
// malformed table; otherwise a value did not fit.
func Unmarshal(data []byte, v any) error {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("decoding into %T, which is no pointer", v)
	}
	if err := (field{typ: Table, data: data}).decode(rv.Elem(), 1); err != nil {
		return fmt.Errorf("decoding a message: %w", err)
	}
	return nil
}

// each calls fn with the fields inside an array or table.
func (f field) each(depth int, fn func(field) error) error {
	if depth > MaxDepth {
		return fmt.Errorf("nested deeper than %d: %w", MaxDepth, ErrParse)
	}
	for a, err := range attrs(f.data) {
		if err != nil {
			return err
		}
		inner, err := a.field()
		if err != nil {
			return err
		}
		if err := fn(inner); err != nil {
			return err
		}
	}
	return nil
}

// value decodes into what an any holds.
func (f field) value(depth int) (any, error) {
	switch f.typ {
	case Table:
		m := map[string]any{}
		return m, f.each(depth, func(in field) error {
			if _, twice := m[in.name]; twice {
				return nil
			}
			var err error
			m[in.name], err = in.value(depth + 1)
			return err
		})
	case Array:
		s := []any{}
		err := f.each(depth, func(in field) error {
			v, err := in.value(depth + 1)
			s = append(s, v)
			return err
		})
		return s, err
	case String:
		return f.str(), nil
	case Bool:
		return f.data[0] != 0, nil
	case Double:
		return f.double(), nil
	case Null:
		return nil, nil
	}
	i, _ := f.integer()
	return i, nil
}

func (f field) decode(v reflect.Value, depth int) error {
	if f.typ == Null {
		v.SetZero()
		return nil
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return f.decode(v.Elem(), depth)
	}
	if f.typ == String {
		if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			return u.UnmarshalText([]byte(f.str()))
		}
	}
	switch v.Kind() {
	case reflect.Interface:
		if v.NumMethod() == 0 {
			x, err := f.value(depth)
			if err == nil {
				v.Set(reflect.ValueOf(x))
			}
			return err
		}
	case reflect.Struct:
		if f.typ == Table {
			return f.decodeStruct(v, depth)
		}
	case reflect.Map:
		if f.typ == Table && v.Type().Key().Kind() == reflect.String {
			return f.decodeMap(v, depth)
		}
	case reflect.Slice:
		if f.typ == Array {
			return f.decodeSlice(v, depth)
		}
	case reflect.Array:
		if f.typ == Array {
			s := reflect.New(reflect.SliceOf(v.Type().Elem())).Elem()
			err := f.decodeSlice(s, depth)
			v.SetZero()
			reflect.Copy(v, s) // as encoding/json does, as much as fits
			return err
		}
	case reflect.String:
		if f.typ == String {
			v.SetString(f.str())
			return nil
		}
	case reflect.Bool:
		if f.typ == Bool {
			v.SetBool(f.data[0] != 0)
			return nil
		}
	case reflect.Float32, reflect.Float64:
		if f.typ == Double {
			v.SetFloat(f.double())
			return nil
		}
		if i, ok := f.integer(); ok {
			v.SetFloat(float64(i))
			return nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if i, ok := f.integer(); ok && !v.OverflowInt(i) {
			v.SetInt(i)
			return nil
		} else if ok {
			return fmt.Errorf("%d does not fit %v", i, v.Type())
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if i, ok := f.integer(); ok && i >= 0 && !v.OverflowUint(uint64(i)) {
			v.SetUint(uint64(i))
			return nil
		} else if ok {
			return fmt.Errorf("%d does not fit %v", i, v.Type())
		}
	}
	return fmt.Errorf("%v does not fit %v", f.typ, v.Type())
}

func (f field) decodeStruct(v reflect.Value, depth int) error {
	l, err := layoutOf(v.Type())
	if err != nil {
		return err
	}
	seen := make([]bool, len(l.members))
	return f.each(depth, func(in field) error {
		i, ok := l.byName[in.name]
		if !ok || seen[i] {
			return nil
		}
		seen[i] = true
		if err := in.decode(v.FieldByIndex(l.members[i].index), depth+1); err != nil {
			return fmt.Errorf("%s: %w", in.name, err)
		}
		return nil
	})
}

func (f field) decodeMap(v reflect.Value, depth int) error {
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	seen := map[string]bool{}
	return f.each(depth, func(in field) error {
		if seen[in.name] {
			return nil
		}
		seen[in.name] = true
		ev := reflect.New(v.Type().Elem()).Elem()
		if err := in.decode(ev, depth+1); err != nil {
			return fmt.Errorf("%s: %w", in.name, err)
		}
		v.SetMapIndex(reflect.ValueOf(in.name).Convert(v.Type().Key()), ev)
		return nil
	})
}

func (f field) decodeSlice(v reflect.Value, depth int) error {
	s := reflect.MakeSlice(v.Type(), 0, 0)
	err := f.each(depth, func(in field) error {
		ev := reflect.New(v.Type().Elem()).Elem()
		if err := in.decode(ev, depth+1); err != nil {
			return fmt.Errorf("%d: %w", s.Len(), err)
		}
		s = reflect.Append(s, ev)
		return nil
	})
	v.Set(s)
	return err
}
