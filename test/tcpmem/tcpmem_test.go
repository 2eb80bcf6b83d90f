// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package tcpmem

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// The kernel's own limits are not changed: other tests run beside this one.
func TestRoom(t *testing.T) {
	if _, _, err := kernel.read(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, taken, limits, want string }{
		{"half is free", "500", "800\t1000\t1200\n", "800\t1000\t1200\n"},
		{"more is lost", "501", "800\t1000\t1200\n", "1301 1501 1701\n"},
		{"all is lost", "1500", "800\t1000\t1200\n", "2300 2500 2700\n"},
		{"half of what was made room for", "2000", "2300\t2500\t2700\n", "2300\t2500\t2700\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := files{filepath.Join(t.TempDir(), "sockstat"), filepath.Join(t.TempDir(), "tcp_mem")}
			write(t, f.taken, "sockets: used 9\nTCP: inuse 1 orphan 0 tw 0 alloc 22 mem "+test.taken+"\nUDP: inuse 0 mem 144\n")
			write(t, f.limits, test.limits)
			synctest.Test(t, func(t *testing.T) {
				if _, err := f.room(t.Context(), 1000); err != nil {
					t.Fatal(err)
				}
			})
			if got, err := os.ReadFile(f.limits); err != nil || string(got) != test.want {
				t.Errorf("%q, not %q: %v", got, test.want, err)
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
