// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"bytes"
	"encoding/json"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// indented is the JSON of encoding/json.
func indented(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "\t")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestJSON(t *testing.T) {
	tests := map[string]any{
		"all kinds":      exampleWAN(),
		"zero":           wan{},
		"pointer":        &wan{},
		"nil":            nil,
		"nil pointer":    (*wan)(nil),
		"nil map":        map[string]int(nil),
		"empty":          []any{[]int{}, map[string]int{}, struct{}{}, [0]int{}},
		"nested":         map[string]any{"b": []wan{{}, exampleWAN()}, "a": map[string][]int{"x": {1, 2}, "": nil}},
		"integers":       []any{int64(math.MinInt64), uint64(math.MaxUint64), int8(-128), uint16(65535)},
		"floats":         []any{0.0, -0.5, 1e20, 0.000001, 1.0 / 3, float32(0.1), float32(1) / 3},
		"text":           []any{netip.Addr{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddrPort("[2001:db8::1]:443")},
		"strings":        []string{"", "a \"quoted\" \\ word", "\x00\x01\x1f\x7f\n\t", "<a> & 'b'", "über 日本 \U0001f600"},
		"names":          map[string]int{"a\"b": 1, "c\n": 2, "": 3},
		"more than fits": map[string]string{"a": strings.Repeat("x", MaxMessage)},
	}
	for name, v := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := JSON(v)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(indented(t, v), string(got)); diff != "" {
				t.Errorf("-encoding/json +ubus:\n%s", diff)
			}
		})
	}
}

func TestJSONErrors(t *testing.T) {
	cycle := &nested{}
	cycle.Next = cycle
	for name, tt := range map[string]struct {
		v    any
		want string
	}{
		"NaN":      {map[string]float64{"a": math.NaN()}, "a: NaN has no JSON form"},
		"infinite": {[]any{1, math.Inf(1)}, "1: +Inf has no JSON form"},
		"bytes":    {map[string][]byte{"a": {1}}, "a: []uint8 has no form"},
		"channel":  {map[string]chan int{"a": nil}, "chan int has no form"},
		"int keys": {map[int]int{1: 1}, "keys that are no strings"},
		"own JSON": {map[string]any{"a": json.RawMessage("1")}, "JSON form of its own"},
		"cycle":    {cycle, "nested deeper than 32"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := JSON(tt.v)
			if err == nil || b != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q, error %v, want %q in it", b, err, tt.want)
			}
		})
	}
}

// FuzzJSONString: whatever is in a string, it is read as encoding/json's.
func FuzzJSONString(f *testing.F) {
	for _, s := range []string{"", "\xff\x00", "\u2028\ufffd", "\ud7ff\ue000", "\"\\/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := JSON(map[string]string{s: s})
		if err != nil {
			t.Fatal(err)
		}
		var got, want map[string]string
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if err := json.Unmarshal([]byte(indented(t, map[string]string{s: s})), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
