// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// Messages are translations by what they translate.
type Messages map[string]string

// ReadPO reads a file of gettext's that has neither contexts nor plurals.
func ReadPO(text string) (Messages, error) {
	all := make(Messages)
	var id, str strings.Builder
	var at *strings.Builder
	end := func() {
		if id.Len() > 0 {
			all[id.String()] = str.String()
		}
		id.Reset()
		str.Reset()
		at = nil
	}
	for i, line := range strings.Split(text, "\n") {
		keyword, quoted, _ := strings.Cut(line, "\"")
		switch strings.TrimSpace(keyword) {
		case "msgid":
			end()
			at = &id
		case "msgstr":
			at = &str
		case "":
			if quoted == "" {
				continue
			}
		default:
			if strings.HasPrefix(line, "#") {
				continue
			}
			return nil, fmt.Errorf("line %d: %q is not known here", i+1, keyword)
		}
		part, err := strconv.Unquote("\"" + quoted)
		if err != nil || at == nil {
			return nil, fmt.Errorf("line %d: no string in quotes", i+1)
		}
		at.WriteString(part)
	}
	end()
	return all, nil
}

// LMO is the form in which LuCI reads translations: the texts, padded to four
// bytes, an index of (hash of the original, number of plurals, offset, length)
// by hash, and where that begins; all numbers are big-endian. What is not
// translated is left out.
func (m Messages) LMO() ([]byte, error) {
	type entry struct{ hash, offset, length uint32 }
	var entries []entry
	var out []byte
	ids := make([]string, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	for _, id := range ids {
		text := m[id]
		if text == "" || text == id {
			continue
		}
		entries = append(entries, entry{Hash(id), uint32(len(out)), uint32(len(text))})
		out = append(out, text...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	if len(entries) == 0 {
		return nil, errors.New("nothing is translated")
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].hash < entries[j].hash })
	index := uint32(len(out))
	for _, e := range entries {
		for _, n := range []uint32{e.hash, 1, e.offset, e.length} {
			out = binary.BigEndian.AppendUint32(out, n)
		}
	}
	return binary.BigEndian.AppendUint32(out, index), nil
}

// ReadLMO are the translations by the hash of the original.
func ReadLMO(file []byte) (map[uint32]string, error) {
	n := len(file) - 4
	if n < 0 {
		return nil, errors.New("too short")
	}
	index := int(binary.BigEndian.Uint32(file[n:]))
	if index > n || (n-index)%16 != 0 {
		return nil, errors.New("the index is not where it should be")
	}
	all := make(map[uint32]string)
	for e := file[index:n]; len(e) > 0; e = e[16:] {
		offset, length := int(binary.BigEndian.Uint32(e[8:])), int(binary.BigEndian.Uint32(e[12:]))
		if offset+length > index {
			return nil, errors.New("a text is not where it should be")
		}
		all[binary.BigEndian.Uint32(e)] = string(file[offset : offset+length])
	}
	return all, nil
}

// Hash is Paul Hsieh's SuperFastHash, with the length as its first value and
// the odd bytes at the end signed, as LuCI has it.
func Hash(s string) uint32 {
	h := uint32(len(s))
	two := func(i int) uint32 { return uint32(s[i]) | uint32(s[i+1])<<8 }
	i := 0
	for ; i+4 <= len(s); i += 4 {
		h += two(i)
		h = h<<16 ^ (two(i+2)<<11 ^ h)
		h += h >> 11
	}
	signed := func(i int) uint32 { return uint32(int32(int8(s[i]))) }
	switch len(s) - i {
	case 3:
		h += two(i)
		h ^= h << 16
		h ^= signed(i+2) << 18
		h += h >> 11
	case 2:
		h += two(i)
		h ^= h << 11
		h += h >> 17
	case 1:
		h += signed(i)
		h ^= h << 10
		h += h >> 1
	}
	h ^= h << 3
	h += h >> 5
	h ^= h << 4
	h += h >> 17
	h ^= h << 25
	h += h >> 6
	return h
}
