package secretsource

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"unicode/utf8"

	"github.com/smartcred/smartcred"
)

// Field returns a Source whose secrets are one member of the JSON object that
// src keeps; in URIs #name asks for it. The member's name is compared exactly
// and its value must be a string that is not empty. A missing member is
// [smartcred.ErrNotFound]; a value that is no JSON object, has a member twice,
// or has one of another type there is [smartcred.ErrInvalidConfig].
//
// Dates are those of the whole value; so is the version where it is the
// backend's own. Fingerprints ([OpenOptions.NewSecret]) are taken of the
// member, so that a change of another member is none of this secret.
//
// Its Close closes src, if that is an [io.Closer].
func Field(src Source, name string) Source { return &field{src: src, name: name} }

// withField returns src, or the field of it that uri asks for.
func withField(src Source, uri *url.URL) Source {
	if uri.Fragment == "" {
		return src
	}
	return Field(src, uri.Fragment)
}

type field struct {
	src  Source
	name string
}

func (f *field) Lookup(ctx context.Context, stage Stage) (Secret, error) {
	whole, err := f.src.Lookup(ctx, stage)
	if err != nil {
		return Secret{}, err
	}
	value, err := member(whole.Reveal(), f.name)
	if err != nil {
		return Secret{}, fmt.Errorf("secretsource: %s secret: field %q: %w", stage, f.name, err)
	}
	s := New(value, whole.Version)
	s.Created, s.Expires = whole.Created, whole.Expires
	if whole.version != nil {
		s.Version, s.version = whole.version(value), whole.version
	}
	return s, nil
}

// Close implements [io.Closer].
func (f *field) Close() error { return closeSource(f.src) }

func closeSource(src Source) error {
	if c, ok := src.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

var (
	errNoObject  = &smartcred.ConfigError{Problem: "the value is not a JSON object"}
	errDuplicate = &smartcred.ConfigError{Problem: "the JSON object has a member twice"}
	errNoString  = &smartcred.ConfigError{Problem: "not a JSON string"}
	errNoUnicode = &smartcred.ConfigError{Problem: "not valid Unicode"}
	errNoValue   = &smartcred.ConfigError{Problem: "the string is empty"}
)

// member returns the string that the JSON object data has under name. The
// decoder's own errors quote the value, so none of them leaves here.
func member(data []byte, name string) ([]byte, error) {
	if !utf8.Valid(data) {
		return nil, errNoObject
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errNoObject
	}
	var found json.RawMessage
	seen := map[string]bool{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, errNoObject
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errNoObject
		}
		k := key.(string) // a member's name, or Token would have failed
		if seen[k] {
			return nil, errDuplicate
		}
		seen[k] = true
		if k == name {
			found = value
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, errNoObject
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errNoObject
	}
	return text(found)
}

func text(raw json.RawMessage) ([]byte, error) {
	if raw == nil {
		return nil, smartcred.ErrNotFound
	}
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil { // null would do for Unmarshal
		return nil, errNoString
	}
	// The decoder puts U+FFFD in the place of half a surrogate pair.
	if bytes.ContainsRune([]byte(s), utf8.RuneError) {
		return nil, errNoUnicode
	}
	if s == "" {
		return nil, errNoValue
	}
	return []byte(s), nil
}
