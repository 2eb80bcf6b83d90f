// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"braid/agent/uci"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what is seen into testdata")

const separator = "\n-- want --\n"

// parseText parses a configuration as if it stood in /etc/config/braid.
func parseText(t testing.TB, text string) (Config, Problems) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "braid"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := uci.Load(dir, "braid")
	if err != nil {
		t.Fatal(err)
	}
	p.Path = "/etc/config/braid"
	return Parse(p)
}

// Each file of testdata holds a configuration and, below a line -- want --,
// the problems and the Config that come of it.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.uci")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".uci"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text, want, _ := strings.Cut(string(raw), separator)
			c, problems := parseText(t, text+"\n")
			var b strings.Builder
			for _, p := range problems {
				severity := "error"
				if p.Warning {
					severity = "warning"
				}
				fmt.Fprintf(&b, "%s %v\n", severity, p)
			}
			dump(&b, "", reflect.ValueOf(c))
			got := b.String()
			if *update {
				if err := os.WriteFile(file, []byte(text+separator+got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// dump writes a line for each part of v that is not zero.
func dump(b *strings.Builder, name string, v reflect.Value) {
	switch x := v.Interface().(type) {
	case []byte:
		if x != nil {
			fmt.Fprintf(b, "%s: %s\n", name, hex.EncodeToString(x))
		}
		return
	case fmt.Stringer:
		if !v.IsZero() {
			fmt.Fprintf(b, "%s: %v\n", name, x)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			dump(b, strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."), v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			dump(b, fmt.Sprintf("%s[%d]", name, i), v.Index(i))
		}
	default:
		if !v.IsZero() {
			fmt.Fprintf(b, "%s: %v\n", name, v)
		}
	}
}
