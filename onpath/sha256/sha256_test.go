// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package sha256

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// RFC 8684 has no vectors of its own; these are the ones of HMAC-SHA256, RFC
// 4231, whose keys fit.
func TestHMAC(t *testing.T) {
	for _, v := range []struct{ key, message, want string }{
		{"\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b", "Hi There",
			"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19",
			string(bytes.Repeat([]byte{0xcd}, 50)), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
	} {
		got := HMAC([]byte(v.key), []byte(v.message))
		if hex.EncodeToString(got[:]) != v.want {
			t.Errorf("HMAC of %q is %x, want %s", v.message, got, v.want)
		}
	}
}

// FIPS 180-4's example of one block.
func TestSum(t *testing.T) {
	got := Sum([]byte("abc"))
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; hex.EncodeToString(got[:]) != want {
		t.Errorf("%x, want %s", got, want)
	}
}

// Of every length around the ends of blocks it is the standard library's.
func TestLengths(t *testing.T) {
	message := bytes.Repeat([]byte("braid"), 60)
	for n := range message {
		same(t, message[:n], message[:min(n, BlockSize)])
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte("key"), []byte("message"))
	f.Fuzz(func(t *testing.T, key, message []byte) { same(t, message, key[:min(len(key), BlockSize)]) })
}

func same(t *testing.T, message, key []byte) {
	t.Helper()
	if got, want := Sum(message), sha256.Sum256(message); got != want {
		t.Errorf("%d bytes: %x, want %x", len(message), got, want)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	if got := HMAC(key, message); !hmac.Equal(got[:], mac.Sum(nil)) {
		t.Errorf("HMAC of %d bytes with %d: %x, want %x", len(message), len(key), got, mac.Sum(nil))
	}
}
