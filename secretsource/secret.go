package secretsource

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"time"
)

const redacted = "[redacted]"

// A Secret is a client secret with what its source says about it. It prints as
// [redacted] through fmt, encoding/json, encoding.TextMarshaler and log/slog,
// also inside other structs' unexported fields: the value is held in a closure,
// because fmt calls no methods there.
//
// The zero Secret holds nothing. A Secret is safe for concurrent use.
type Secret struct {
	// Version is the source's own handle of this value, for logs. It never
	// serves as an identity: the value does, see [Secret.Equal].
	Version string
	// Created is when this value became current at its source; zero where the
	// source does not tell.
	Created time.Time
	// Expires is when the source says that this value ends; zero if never or unknown.
	Expires time.Time

	value func() []byte
	// version makes Version out of a value, where the backend has no versions
	// of its own; Field applies it to the field. It captures the key, so that
	// the key does not print either.
	version func(value []byte) string
}

// New returns a Secret that holds a copy of value.
func New(value []byte, version string) Secret {
	kept := bytes.Clone(value)
	return Secret{Version: version, value: func() []byte { return kept }}
}

// Reveal returns a copy of the value; nil for the zero Secret.
func (s Secret) Reveal() []byte {
	if s.value == nil {
		return nil
	}
	return bytes.Clone(s.value())
}

// IsZero reports whether s holds no value.
func (s Secret) IsZero() bool { return s.value == nil }

// Equal reports whether both hold the same value, in constant time for values
// of the same length. Version and dates are not compared.
func (s Secret) Equal(t Secret) bool {
	if s.value == nil || t.value == nil {
		return s.value == nil && t.value == nil
	}
	return subtle.ConstantTimeCompare(s.value(), t.value()) == 1
}

// Format implements [fmt.Formatter]: [redacted], whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], for JSON, XML and YAML too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
