// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
)

// member is a field of a Go struct that has a place in a message.
type member struct {
	name      string
	index     []int
	omitEmpty bool
	omitZero  bool
}

func (m member) omits(v reflect.Value) bool {
	if m.omitZero {
		if z, ok := v.Interface().(interface{ IsZero() bool }); ok && z.IsZero() || v.IsZero() {
			return true
		}
	}
	if !m.omitEmpty {
		return false
	}
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

type layout struct {
	members []member
	byName  map[string]int
}

var layouts sync.Map // reflect.Type -> *layout

func layoutOf(t reflect.Type) (*layout, error) {
	if l, ok := layouts.Load(t); ok {
		return l.(*layout), nil
	}
	l := &layout{byName: map[string]int{}}
	if err := l.add(t, nil); err != nil {
		return nil, err
	}
	layouts.Store(t, l)
	return l, nil
}

// add appends the fields of t, and in their place those of embedded structs
// without a name of their own. Where encoding/json would choose between fields
// of one name, this refuses.
func (l *layout) add(t reflect.Type, prefix []int) error {
	for i := range t.NumField() {
		sf := t.Field(i)
		name, opts, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if sf.Tag.Get("json") == "-" {
			continue
		}
		index := append(append([]int(nil), prefix...), i)
		if sf.Anonymous && name == "" && !hasText(sf.Type) {
			if sf.Type.Kind() != reflect.Struct {
				return fmt.Errorf("%v embeds %v, which is no struct", t, sf.Type)
			}
			if err := l.add(sf.Type, index); err != nil {
				return err
			}
			continue
		}
		if !sf.IsExported() {
			continue
		}
		m := member{name: name, index: index}
		if name == "" {
			m.name = sf.Name
		}
		for opt := range strings.SplitSeq(opts, ",") {
			switch opt {
			case "omitempty":
				m.omitEmpty = true
			case "omitzero":
				m.omitZero = true
			case "":
			default:
				return fmt.Errorf("%v.%s: json option %q", t, sf.Name, opt)
			}
		}
		if _, twice := l.byName[m.name]; twice {
			return fmt.Errorf("%v: two fields are named %q", t, m.name)
		}
		l.byName[m.name] = len(l.members)
		l.members = append(l.members, m)
	}
	return nil
}
