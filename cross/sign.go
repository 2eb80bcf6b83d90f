// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
)

// SigningKey is a secret key of usign, OpenWrt's signify.
type SigningKey struct {
	id  []byte
	key ed25519.PrivateKey
}

// The parts of a secret key's one line of base64, in bytes.
const (
	algorithmLen = 2 // "Ed"
	kdfLen       = 2 // "BK"
	roundsLen    = 4 // 0: no passphrase
	saltLen      = 16
	checksumLen  = 8 // of the key's SHA-512
	idLen        = 8

	checksumAt = algorithmLen + kdfLen + roundsLen + saltLen
	idAt       = checksumAt + checksumLen
	keyAt      = idAt + idLen
)

// ReadKey reads a secret key without a passphrase, as `usign -G` and
// `signify -G -n` make them.
func ReadKey(file string) (*SigningKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	_, line, _ := bytes.Cut(text, []byte("\n")) // a comment is first
	raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(line)))
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", file, err)
	}
	if len(raw) != keyAt+ed25519.PrivateKeySize || !bytes.HasPrefix(raw, []byte("EdBK")) {
		return nil, fmt.Errorf("reading key %s: it is not a secret key of usign", file)
	}
	if rounds := raw[algorithmLen+kdfLen:][:roundsLen]; !bytes.Equal(rounds, make([]byte, roundsLen)) {
		return nil, fmt.Errorf("reading key %s: %w", file, errors.New("it has a passphrase"))
	}
	key := raw[keyAt:]
	if sum := sha512.Sum512(key); !bytes.Equal(sum[:checksumLen], raw[checksumAt:idAt]) {
		return nil, fmt.Errorf("reading key %s: its checksum does not fit", file)
	}
	return &SigningKey{id: raw[idAt:keyAt], key: key}, nil
}

// Sign returns the contents of a signature's file.
func (k *SigningKey) Sign(message []byte) []byte {
	raw := append([]byte("Ed"), k.id...)
	raw = append(raw, ed25519.Sign(k.key, message)...)
	return fmt.Appendf(nil, "untrusted comment: signed by key %x\n%s\n", k.id, base64.StdEncoding.EncodeToString(raw))
}
