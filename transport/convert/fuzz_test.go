// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzParse holds that whatever comes in, a message out of it is within it,
// encodes, and decodes to itself; that Read agrees with Parse; and that a
// refusal can be sent.
func FuzzParse(f *testing.F) {
	for _, tt := range goldens {
		f.Add(unhex(f, tt.wire))
	}
	f.Add(unhex(f, connectWith("1e 01 00 00")))
	f.Add(unhex(f, "01 03 2263  01 01 0000  c0 01 0000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, n, err := Parse(b)

		r := bytes.NewReader(b)
		fromRead, readErr := Read(r)
		var pe *ProtocolError
		if errors.As(err, &pe) && pe.Reply != nil {
			if _, err := Reply(*pe.Reply).Append(nil); err != nil {
				t.Errorf("reply: %v", err)
			}
		}
		if err != nil {
			if n != 0 {
				t.Errorf("took %d bytes of what it refused", n)
			}
			if readErr == nil {
				t.Errorf("Read takes what Parse refuses: %v", err)
			}
			return
		}
		if readErr != nil {
			t.Fatalf("Read refuses what Parse takes: %v", readErr)
		}
		if n < headerLen || n > min(len(b), MaxLen) || n%word != 0 || len(b)-r.Len() != n {
			t.Fatalf("Parse took %d of %d bytes, Read %d", n, len(b), len(b)-r.Len())
		}
		if diff := cmp.Diff(m, fromRead, compare); diff != "" {
			t.Fatalf("Read (-Parse +Read):\n%s", diff)
		}

		enc, err := m.Append(nil)
		if err != nil {
			t.Fatalf("encoding what was decoded: %v", err)
		}
		if len(enc) > n {
			t.Errorf("%d bytes have become %d", n, len(enc))
		}
		again, n2, err := Parse(enc)
		if err != nil || n2 != len(enc) {
			t.Fatalf("decoding %d bytes again: %d, %v", len(enc), n2, err)
		}
		if diff := cmp.Diff(m, again, compare); diff != "" {
			t.Errorf("again (-first +second):\n%s", diff)
		}

		if err := m.CheckRequest(); err != nil && !errors.As(err, &pe) {
			t.Errorf("checking request: %v", err)
		}
	})
}

// FuzzOptions holds that a list of options is walked within its bounds and that
// every list a Connect may carry is walked to its end.
func FuzzOptions(f *testing.F) {
	f.Add([]byte(synAck))
	f.Add([]byte{30, 2, 0, 0})
	f.Add([]byte{1, 1, 30})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, seen := Options(b), 0
		for kind, v := range o.All() {
			if kind == kindEOL || kind == kindNOP {
				t.Errorf("yields kind %d", kind)
			}
			seen += 2 + len(v)
		}
		if seen > len(b) {
			t.Errorf("%d bytes of options in %d", seen, len(b))
		}
		nops := bytes.Count(b, []byte{kindNOP})
		if o.check() == nil && bytes.IndexByte(b, kindEOL) < 0 && seen+nops < len(b) {
			t.Errorf("%d bytes of options and %d NOPs in %d", seen, nops, len(b))
		}
		o.MPCapable()
		o.Unsupported(KindMPTCP)
	})
}
