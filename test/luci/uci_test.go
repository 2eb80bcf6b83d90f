// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package luci

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"braid/agent/uci"
)

type table = map[string]any

// uciStore answers as rpcd's object uci does, and keeps changes apart from the
// files until they are applied.
type uciStore struct {
	dir string

	mu       sync.Mutex
	packages map[string][]table // with what has been changed
	changed  map[string]bool
	made     int
}

func newUCIStore(dir string) *uciStore {
	return &uciStore{dir: dir, packages: make(map[string][]table), changed: make(map[string]bool)}
}

func (s *uciStore) sections(name string) ([]table, error) {
	if all, ok := s.packages[name]; ok {
		return all, nil
	}
	p, err := uci.Load(s.dir, name)
	if err != nil {
		return nil, err
	}
	all := []table{}
	for i, sec := range p.Sections {
		t := table{".type": sec.Type, ".name": sec.Name, ".anonymous": sec.Name == ""}
		if sec.Name == "" {
			t[".name"] = fmt.Sprintf("cfg%06x", i)
		}
		for _, o := range sec.Options {
			if o.List {
				t[o.Name] = slices.Collect(func(yield func(any) bool) {
					for _, v := range o.Values {
						if !yield(v) {
							return
						}
					}
				})
			} else {
				t[o.Name] = o.Values[0]
			}
		}
		all = append(all, t)
	}
	s.packages[name] = all
	return all, nil
}

// call is a call of a method; ok is false if there is no such thing.
func (s *uciStore) call(method string, args table) (answer any, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if method == "changes" {
		changes := table{}
		for name := range s.changed {
			changes[name] = []any{[]any{"set", name, "changed"}}
		}
		return table{"changes": changes}, true
	}
	name, _ := args["config"].(string)
	all, err := s.sections(name)
	if err != nil {
		return nil, false
	}
	find := func(id any) int {
		return slices.IndexFunc(all, func(t table) bool { return t[".name"] == id })
	}
	values, _ := args["values"].(table)
	switch at := find(args["section"]); method {
	case "get":
		out := table{}
		for i, t := range all {
			c := maps.Clone(t)
			c[".index"] = i
			out[t[".name"].(string)] = c
		}
		return table{"values": out}, true
	case "add":
		id, named := args["name"].(string)
		if !named {
			s.made++
			id = fmt.Sprintf("cfg9%05x", s.made)
		}
		t := table{".type": args["type"], ".name": id, ".anonymous": !named}
		maps.Copy(t, values)
		s.packages[name] = append(all, t)
		s.changed[name] = true
		return table{"section": id}, true
	case "set":
		if at < 0 {
			return nil, false
		}
		for k, v := range values {
			all[at][k] = v
		}
	case "delete":
		options, some := args["options"].([]any)
		switch {
		case at < 0:
			return nil, false
		case some && options != nil:
			for _, o := range options {
				delete(all[at], o.(string))
			}
		default:
			s.packages[name] = slices.Delete(all, at, at+1)
		}
	case "order":
		var ordered []table
		for _, id := range args["sections"].([]any) {
			if i := find(id); i >= 0 {
				ordered = append(ordered, all[i])
			}
		}
		for _, t := range all {
			if !slices.Contains(args["sections"].([]any), t[".name"]) {
				ordered = append(ordered, t)
			}
		}
		s.packages[name] = ordered
	default:
		return nil, false
	}
	s.changed[name] = true
	return table{}, true
}

// commit writes what has been changed.
func (s *uciStore) commit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.changed {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(uciText(s.packages[name])), 0o600); err != nil {
			return err
		}
	}
	clear(s.changed)
	clear(s.packages)
	return nil
}

func uciText(sections []table) string {
	var b strings.Builder
	for _, t := range sections {
		fmt.Fprintf(&b, "\nconfig %s", t[".type"])
		if t[".anonymous"] == false {
			fmt.Fprintf(&b, " '%s'", t[".name"])
		}
		b.WriteString("\n")
		for _, k := range slices.Sorted(maps.Keys(t)) {
			switch v := t[k].(type) {
			case []any:
				for _, item := range v {
					fmt.Fprintf(&b, "\tlist %s '%v'\n", k, item)
				}
			default:
				if k[0] != '.' {
					fmt.Fprintf(&b, "\toption %s '%v'\n", k, v)
				}
			}
		}
	}
	return b.String()
}
