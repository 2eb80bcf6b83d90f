// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package modem

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParseMembers(t *testing.T) {
	text := "{ \"a\": \"x\\u00e9\\ud83d\\ude00\\n\\\"\\\\\", \"b\":-1.5e2, \"list\": [1, \"two\", {\"c\": true}], \"d\": {\"e\": null}, \"f\": {} }\n{\"a\":2}"
	want := []member{{"a", "xé😀\n\"\\"}, {"b", "-1.5e2"}, {"c", "true"}, {"e", "null"}, {"a", "2"}}
	got, err := parseMembers([]byte(text))
	if d := cmp.Diff(want, got, cmp.AllowUnexported(member{})); d != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
	if n, f := got[1].number(), got[1].fraction(); n != -150 || !f {
		t.Errorf("number %v, fraction %v", n, f)
	}
}

// Whatever a modem's program prints is an error or read as encoding/json does.
func FuzzParseMembers(f *testing.F) {
	for _, text := range []string{`{"a":"b"}`, `{"a":[1,{"b":2}],"c":null}`, `{"a":"\u12`, `{"a":"\ud800\u"}`, `[[[[[[[[[[[[`, `{"a" 1}`, `{"a":1,}`, "\"\\", `{"a":-}`, `{} {}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		members, err := parseMembers([]byte(text))
		var object map[string]any
		if err != nil || !utf8.ValidString(text) || json.Unmarshal([]byte(text), &object) != nil {
			return
		}
		last := make(map[string]string) // the last of a name holds
		for _, m := range members {
			last[m.key] = m.text
		}
		for key, value := range object {
			if s, simple := value.(string); simple && len(members) == len(object) && last[key] != s {
				t.Errorf("%q: %q is %q, want %q", text, key, last[key], s)
			}
		}
	})
}
