package secretsource

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// minFingerprintKey is the least number of bytes that a key may have: 128 bits.
const minFingerprintKey = 16

// A FingerprintKey is the key of [OpenOptions]: at least 16 random bytes. It
// prints as [redacted], but not inside unexported fields.
type FingerprintKey []byte

// Format implements [fmt.Formatter]: [redacted], whatever the verb.
func (FingerprintKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (FingerprintKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], for JSON, XML and YAML too.
func (FingerprintKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

var processKey = sync.OnceValue(func() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	return key
})

// NewSecret returns a Secret that holds a copy of value, for backends that give
// values no versions. Its Version is a fingerprint: equal for equal values,
// different for different ones, and of no use to who guesses at the value,
// because it is keyed: "fp-" and the first 12 hex digits of an HMAC-SHA256
// under FingerprintKey. Without such a key (o may be nil) it is a key made for
// this process, and fingerprints of different processes differ.
func (o *OpenOptions) NewSecret(value []byte) Secret { return o.maker()(value) }

// maker returns NewSecret under o as it is now. Sources keep it rather than o,
// so that no key shows where a source is printed.
func (o *OpenOptions) maker() func([]byte) Secret {
	key := processKey()
	if o != nil && len(o.FingerprintKey) >= minFingerprintKey {
		key = bytes.Clone(o.FingerprintKey)
	}
	version := func(value []byte) string {
		mac := hmac.New(sha256.New, key)
		// The store's key also keys other identities: the label keeps them apart.
		mac.Write([]byte("smartcred secret version\x00"))
		mac.Write(value)
		return "fp-" + hex.EncodeToString(mac.Sum(nil)[:6])
	}
	return func(value []byte) Secret {
		s := New(value, version(value))
		s.version = version
		return s
	}
}
