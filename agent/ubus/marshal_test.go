// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type quota struct {
	Used  uint64 `json:"used"`
	Limit uint64 `json:"limit"`
}

type common struct {
	Name  string `json:"name"`
	Since int64  `json:"since"`
}

// wan has a bit of everything a status model has.
type wan struct {
	common
	Up       bool              `json:"up"`
	Weight   int               `json:"weight"`
	Mark     uint32            `json:"mark"`
	Tiny     int8              `json:"tiny"`
	Byte     uint8             `json:"byte"`
	Loss     float64           `json:"loss"`
	Prefix   netip.Prefix      `json:"prefix"`
	Addr     *netip.Addr       `json:"addr"`
	Quota    *quota            `json:"quota"`
	NoQuota  *quota            `json:"no_quota"`
	Tags     []string          `json:"tags"`
	NoTags   []string          `json:"no_tags"`
	Counters [2]uint64         `json:"counters"`
	Labels   map[string]string `json:"labels"`
	Any      any               `json:"any"`
	Wait     time.Duration     `json:"wait"`
	Empty    string            `json:"empty,omitempty"`
	Zero     netip.Addr        `json:"zero,omitzero"`
	Plain    string
	Hidden   string `json:"-"`
	private  int
}

func exampleWAN() wan {
	addr := netip.MustParseAddr("2001:db8::1")
	return wan{
		common: common{Name: "fibre \"1\" \u00e9", Since: 12},
		Up:     true, Weight: -100, Mark: math.MaxUint32, Tiny: 1, Byte: 255, Loss: 0.25,
		Prefix: netip.MustParsePrefix("64:ff9b::/96"), Addr: &addr,
		Quota: &quota{Used: 1 << 40, Limit: math.MaxInt64},
		Tags:  []string{"a", ""}, Counters: [2]uint64{1, 2}, Labels: map[string]string{"b": "2", "a": "1"},
		Any:  map[string]any{"list": []any{1, true, nil, "x", 1.5}},
		Wait: time.Second, Plain: "p", Hidden: "h", private: 1,
	}
}

// asJSON makes of an any that Unmarshal filled what encoding/json would fill.
func asJSON(v any) any {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case []any:
		s := make([]any, len(v))
		for i := range v {
			s[i] = asJSON(v[i])
		}
		return s
	case map[string]any:
		m := map[string]any{}
		for k := range v {
			m[k] = asJSON(v[k])
		}
		return m
	}
	return v
}

func TestMarshalIsJSON(t *testing.T) {
	tests := map[string]any{
		"all kinds":  exampleWAN(),
		"zero":       wan{},
		"pointer":    &wan{},
		"map of any": map[string]any{"x": []wan{{}, exampleWAN()}, "y": map[string]int{}, "": "no name"},
		"nil map":    map[string]int(nil),
	}
	for name, v := range tests {
		t.Run(name, func(t *testing.T) {
			data, err := Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			var got any
			if err := Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			var want any = map[string]any{} // a message is a table, also where JSON says null
			if string(text) != "null" {
				if err := json.Unmarshal(text, &want); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, asJSON(got)); diff != "" {
				t.Errorf("-JSON +ubus:\n%s", diff)
			}
		})
	}
}

func TestMarshalOrder(t *testing.T) {
	data, err := Marshal(exampleWAN())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for a, err := range attrs(data) {
		f, ferr := a.field()
		if err != nil || ferr != nil {
			t.Fatal(err, ferr)
		}
		got = append(got, f.name)
	}
	want := strings.Fields("name since up weight mark tiny byte loss prefix addr quota no_quota tags no_tags counters labels any wait Plain")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRoundTrip(t *testing.T) {
	want := exampleWAN()
	want.Hidden, want.private, want.Any = "", 0, nil
	data, err := Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got wan
	if err := Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(want, got) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

type nested struct {
	Next *nested `json:"next"`
}

func TestMarshalErrors(t *testing.T) {
	cycle := &nested{}
	cycle.Next = cycle
	tests := map[string]struct {
		v    any
		want string
	}{
		"string":        {"x", "a message is a struct or a map"},
		"text":          {netip.Addr{}, "a message is a struct or a map"},
		"NaN":           {map[string]float64{"a": math.NaN()}, "a: NaN has no JSON form"},
		"uint64":        {map[string]any{"a": []uint64{1, math.MaxUint64}}, "a: 1: 18446744073709551615 is more than an int64"},
		"NUL":           {map[string]string{"a": "b\x00"}, `a: "b\x00" has a NUL`},
		"NUL in a name": {map[string]string{"a\x00": ""}, "has a NUL"},
		"bytes":         {map[string][]byte{"a": {1}}, "[]uint8 has no form"},
		"channel":       {map[string]chan int{"a": nil}, "chan int has no form"},
		"int keys":      {map[int]int{1: 1}, "keys that are no strings"},
		"own JSON":      {map[string]any{"a": json.RawMessage("1")}, "JSON form of its own"},
		"string option": {struct {
			A int `json:"a,string"`
		}{}, `json option "string"`},
		"same name twice": {struct {
			A int `json:"B"`
			B int
		}{}, `two fields are named "B"`},
		"cycle":     {cycle, "nested deeper than 32"},
		"too large": {map[string]string{"a": strings.Repeat("x", MaxMessage)}, "a message has at most 1048576"},
		"long name": {map[string]int{strings.Repeat("x", 1<<16): 1}, "name of 65536 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Marshal(tt.v)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestUnmarshalInto(t *testing.T) {
	type target struct {
		S string            `json:"s"`
		I int16             `json:"i"`
		U uint8             `json:"u"`
		F float64           `json:"f"`
		B bool              `json:"b"`
		P *int              `json:"p"`
		A netip.Addr        `json:"a"`
		L []int             `json:"l"`
		M map[string]string `json:"m"`
	}
	tests := map[string]struct {
		in   map[string]any
		want target
		err  string
	}{
		"fits": {
			in:   map[string]any{"s": "x", "i": -3, "u": 255, "f": 2, "b": true, "p": 4, "a": "192.0.2.1", "l": []int{1}, "m": map[string]any{"k": "v"}, "else": 1},
			want: target{S: "x", I: -3, U: 255, F: 2, B: true, P: new(4), A: netip.MustParseAddr("192.0.2.1"), L: []int{1}, M: map[string]string{"k": "v"}},
		},
		"wide but small":  {in: map[string]any{"i": int64(7)}, want: target{I: 7}},
		"null":            {in: map[string]any{"s": nil, "p": nil, "l": nil}},
		"overflow":        {in: map[string]any{"i": 1 << 15}, err: "i: 32768 does not fit int16"},
		"negative":        {in: map[string]any{"u": -1}, err: "u: -1 does not fit uint8"},
		"string for int":  {in: map[string]any{"i": "1"}, err: "i: string does not fit int16"},
		"int for string":  {in: map[string]any{"s": 1}, err: "s: int32 does not fit string"},
		"int for bool":    {in: map[string]any{"b": 1}, err: "b: int32 does not fit bool"},
		"double for int":  {in: map[string]any{"i": 1.5}, err: "i: double does not fit int16"},
		"no address":      {in: map[string]any{"a": "wan"}, err: "a: ParseAddr"},
		"in a list":       {in: map[string]any{"l": []any{1, "x"}}, err: "l: 1: string does not fit int"},
		"in a map":        {in: map[string]any{"m": map[string]any{"k": 1}}, err: "m: k: int32 does not fit string"},
		"table for array": {in: map[string]any{"l": map[string]any{}}, err: "l: table does not fit []int"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			data, err := Marshal(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			var got target
			err = Unmarshal(data, &got)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || errors.Is(err, ErrParse) {
					t.Fatalf("error %v, want %q in it and not ErrParse", err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestUnmarshalMalformed(t *testing.T) {
	deep := []byte{}
	for range MaxDepth {
		var err error
		if deep, err = appendField(nil, Array, "", deep); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string][]byte{
		"cut header":              unhex(t, `85 0000`),
		"length below the header": unhex(t, `85 000003`),
		"length beyond the end":   unhex(t, `85 000010 0001 61 00 00000001`),
		"padding missing":         unhex(t, `87 000009 0001 62 00 01`),
		"name beyond the end":     unhex(t, `85 00000c 00ff 61 00 00000001`),
		"name without NUL":        unhex(t, `85 00000c 0001 61 61 00000001`),
		"no name at all":          unhex(t, `85 000004`),
		"short int64":             unhex(t, `84 00000c 0001 61 00 00000001`),
		"string without NUL":      unhex(t, `83 00000c 0001 61 00 61616161`),
		"empty string value":      unhex(t, `83 000008 0001 61 00`),
		"unknown type":            unhex(t, `89 000008 0001 61 00`),
		"too deep":                deep,
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			var v any
			if err := Unmarshal(b, &v); !errors.Is(err, ErrParse) {
				t.Errorf("error %v, want ErrParse", err)
			}
		})
	}
	if err := Unmarshal(nil, map[string]any{}); err == nil {
		t.Error("decoded into what is no pointer")
	}
}

// FuzzDecode: nothing makes the decoder panic, and what it takes survives
// encoding and decoding.
func FuzzDecode(f *testing.F) {
	for _, tt := range valueGoldens {
		b, _ := Marshal(tt.out)
		f.Add([]byte(b))
	}
	b, _ := Marshal(exampleWAN())
	f.Add([]byte(b))
	f.Fuzz(func(t *testing.T, b []byte) {
		var w wan
		_ = Unmarshal(b, &w)
		_ = signature(b)
		_ = message{body: b}.attributes()
		_, _ = readMessage(bytes.NewReader(b), MaxMessage)
		find(b, "id", String)

		var v map[string]any
		if Unmarshal(b, &v) != nil {
			return
		}
		again, err := Marshal(v)
		if err != nil {
			if strings.Contains(err.Error(), "has no JSON form") || strings.Contains(err.Error(), "NUL") {
				return // NaN, and names with a NUL, can be received and not sent
			}
			t.Fatal(err)
		}
		var v2 map[string]any
		if err := Unmarshal(again, &v2); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(v, v2) {
			t.Errorf("%v became %v", v, v2)
		}
	})
}
