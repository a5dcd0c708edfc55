package signer

import (
	"bytes"
	"context"
	"crypto"
	"fmt"

	"github.com/smartcred/smartcred"
)

// A localKey is a key whose private half is in this process. It is held in a
// closure, so that printing whatever holds a localKey does not reach it.
type localKey struct {
	key       Key
	private   func() crypto.Signer
	encrypted bool // its file was
}

// A leftOutKey is a member of a JWK Set that can't sign.
type leftOutKey struct {
	name string // its kid, or its place in the set
	why  error
}

// passphrases returns the passphrases to try, in order; none: there is no
// source of them.
type passphrases func(ctx context.Context) ([][]byte, error)

// parseKeyFile returns the private keys of a file: one of a PEM file or JWK, one
// or more of a JWK Set. It never returns none without an error.
func parseKeyFile(ctx context.Context, data []byte, asked Algorithm, pass passphrases) ([]localKey, []leftOutKey, error) {
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) == 0 {
		return nil, nil, malformed("the file is empty")
	} else if trimmed[0] == '{' {
		return parseJWKFile(trimmed, asked)
	}
	key, err := parsePEM(ctx, data, asked, pass)
	if err != nil {
		return nil, nil, err
	}
	return []localKey{key}, nil, nil
}

// newLocalKey names a private key by its thumbprint.
func newLocalKey(private crypto.Signer, asked Algorithm) (localKey, error) {
	key, err := describe(private.Public(), asked)
	if err != nil {
		return localKey{}, err
	}
	return localKey{key: key, private: func() crypto.Signer { return private }}, nil
}

// A malformedError is a file that may be half written; it is a ConfigError.
type malformedError struct{ *smartcred.ConfigError }

func (e malformedError) Unwrap() error { return e.ConfigError }

func malformed(format string, args ...any) error {
	return malformedError{&smartcred.ConfigError{Problem: fmt.Sprintf("malformed key: "+format, args...)}}
}

func refused(format string, args ...any) error {
	return &smartcred.ConfigError{Problem: fmt.Sprintf(format, args...)}
}
