package smartauth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

// RFC 7636 section 4.1.
const (
	minVerifier        = 43
	maxVerifier        = 128
	unreservedNoLetter = "0123456789-._~"
)

// randomLength is the length of what randomText returns.
const randomLength = 43

var errVerifier = errors.New("smartauth: code verifier: must be 43 to 128 of A-Z a-z 0-9 - . _ ~")

// NewCodeVerifier returns a PKCE code verifier of 256 random bits, in 43
// characters (RFC 7636 section 4.1). It is a secret until the code is exchanged.
// [Client.StartLaunch] makes one by itself.
func NewCodeVerifier() string { return randomText() }

// CodeChallenge returns the S256 code challenge of verifier (RFC 7636 section
// 4.2), or an error if verifier is not one. The error does not hold it.
func CodeChallenge(verifier string) (string, error) {
	if !validVerifier(verifier) {
		return "", errVerifier
	}
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

func validVerifier(s string) bool {
	if len(s) < minVerifier || len(s) > maxVerifier {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !letter && !strings.ContainsRune(unreservedNoLetter, r)
	})
}

// randomText returns 256 random bits as 43 unreserved characters.
func randomText() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}
