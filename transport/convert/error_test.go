// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestErrorText(t *testing.T) {
	tests := []struct {
		err  Error
		want string
	}{
		{Error{Code: UnsupportedVersion, Value: []byte{1, 2, 0, 0, 0}}, "converter: Unsupported Version (0), it speaks [1 2]"},
		{Error{Code: MalformedMessage, Value: make([]byte, 9)}, "converter: Malformed Message (1)"},
		{Error{Code: UnsupportedMessage, Value: make([]byte, 9)}, "converter: Unsupported Message (2)"},
		{Error{Code: MissingCookie, Value: []byte("\x00secret")}, "converter: Missing Cookie (3)"},
		{Error{Code: NotAuthorized}, "converter: Not Authorized (32)"},
		{Error{Code: UnsupportedTCPOption, Value: []byte{34}}, "converter: Unsupported TCP Option (33), kinds [34]"},
		{Error{Code: ResourceExceeded, Value: []byte{5}}, "converter: Resource Exceeded (64), retry after 5s"},
		{Error{Code: NetworkFailure}, "converter: Network Failure (65), retry after 30s"},
		{Error{Code: ConnectionReset}, "converter: Connection Reset (96)"},
		{Error{Code: DestinationUnreachable, Value: []byte{13}}, "converter: Destination Unreachable (97), ICMP code 13"},
		{Error{Code: 200}, "converter: unknown error (200)"},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			var got Error
			if !errors.As(fmt.Errorf("connecting: %w", tt.err), &got) {
				t.Fatal("not found in the chain")
			}
			if got.Error() != tt.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestErrorDetails(t *testing.T) {
	type details struct {
		Retry  time.Duration
		ICMP   uint8
		IsICMP bool
		Cookie []byte
		Kinds  []byte
	}
	tests := []struct {
		name string
		err  Error
		want details
	}{
		{"resource, default", Error{Code: ResourceExceeded, Value: []byte{0}}, details{Retry: 30 * time.Second}},
		{"resource, longest", Error{Code: ResourceExceeded, Value: []byte{255}}, details{Retry: 255 * time.Second}},
		{"network", Error{Code: NetworkFailure, Value: []byte{1}}, details{Retry: time.Second}},
		{"unreachable", Error{Code: DestinationUnreachable, Value: []byte{3}}, details{ICMP: 3, IsICMP: true}},
		{"cookie", Error{Code: MissingCookie, Value: []byte{0, 1, 2, 3, 4}}, details{Cookie: []byte{1, 2, 3, 4}}},
		{"cookie absent", Error{Code: MissingCookie, Value: []byte{0}}, details{}},
		{"kinds", Error{Code: UnsupportedTCPOption, Value: []byte{34, 29, 0, 0, 0}}, details{Kinds: []byte{34, 29}}},
		{"reset", Error{Code: ConnectionReset, Value: []byte{0}}, details{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := details{Retry: tt.err.RetryAfter(), Kinds: tt.err.Kinds()}
			got.ICMP, got.IsICMP = tt.err.ICMPCode()
			if c, ok := tt.err.Cookie(); ok {
				got.Cookie = c.Value
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("details (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRetryError(t *testing.T) {
	tests := []struct{ ask, want time.Duration }{
		{0, DefaultRetry},
		{-time.Second, DefaultRetry},
		{time.Millisecond, time.Second},
		{5 * time.Second, 5 * time.Second},
		{5001 * time.Millisecond, 6 * time.Second},
		{time.Hour, 255 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.ask.String(), func(t *testing.T) {
			if got := RetryError(ResourceExceeded, tt.ask).RetryAfter(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCookieEqual(t *testing.T) {
	tests := []struct {
		name         string
		shown, known []byte
		want         bool
	}{
		{"same", []byte{1, 2, 3, 4}, []byte{1, 2, 3, 4}, true},
		{"padded on the wire", []byte{1, 2, 3, 4, 5, 0, 0, 0}, []byte{1, 2, 3, 4, 5}, true},
		{"zero of its own at the end", []byte{1, 2, 3, 0}, []byte{1, 2, 3, 0}, true},
		{"other", []byte{1, 2, 3, 5}, []byte{1, 2, 3, 4}, false},
		{"longer within the padding", []byte{1, 2, 3, 4, 5, 0, 0, 1}, []byte{1, 2, 3, 4, 5}, false},
		{"more words of zeros", []byte{1, 2, 3, 4, 0, 0, 0, 0}, []byte{1, 2, 3, 4}, false},
		{"a start of it", []byte{1, 2, 3, 4}, []byte{1, 2, 3, 4, 5}, false},
		{"both empty", nil, nil, false},
		{"none known", []byte{0, 0, 0}, nil, false},
		{"none shown", nil, []byte{1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (Cookie{Value: tt.shown}).Equal(tt.known); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
