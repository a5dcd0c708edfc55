package secretsource

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/strictjson"
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
	src    Source
	name   string
	closed atomic.Bool
}

func (f *field) Lookup(ctx context.Context, stage Stage) (Secret, error) {
	if f.closed.Load() {
		return Secret{}, errClosed
	}
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
func (f *field) Close() error {
	if f.closed.Swap(true) {
		return nil
	}
	return closeSource(f.src)
}

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

// member returns the string that the JSON object data has under name. No error
// quotes the value.
func member(data []byte, name string) ([]byte, error) {
	o, err := strictjson.Object(data)
	switch {
	case err != nil || o.BOM:
		return nil, errNoObject
	case len(o.Duplicates) > 0:
		return nil, errDuplicate
	}
	value, state := o.String(name)
	switch {
	case state == strictjson.Absent:
		return nil, smartcred.ErrNotFound
	case state != strictjson.Present:
		return nil, errNoString
	case strings.ContainsRune(value, utf8.RuneError): // stands for half a surrogate pair
		return nil, errNoUnicode
	case value == "":
		return nil, errNoValue
	}
	return []byte(value), nil
}
