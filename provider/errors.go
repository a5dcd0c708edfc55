package provider

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// OAuth's errors, RFC 6749 section 5.2. [TokenError] matches them by its code.
var (
	ErrInvalidRequest       = errors.New("invalid_request")
	ErrInvalidClient        = errors.New("invalid_client")
	ErrInvalidGrant         = errors.New("invalid_grant")
	ErrInvalidScope         = errors.New("invalid_scope")
	ErrUnauthorizedClient   = errors.New("unauthorized_client")
	ErrUnsupportedGrantType = errors.New("unsupported_grant_type")
)

// A TokenError is an OAuth error answer. All its text has been searched for the
// request's credentials, reduced to the characters RFC 6749 allows, and cut to
// 256 bytes.
type TokenError struct {
	// Status is the HTTP status. It can be any, 200 and 500 too.
	Status int
	// Code is the error member, RFC 6749 section 5.2 or an extension.
	Code string
	// Description and URI are error_description and error_uri; empty if absent.
	Description, URI string
	// RetryAfter is what the server asked for; 0 if nothing.
	RetryAfter time.Duration
	// CorrelationID is the server's request id, for its operators; empty if it
	// sent none.
	CorrelationID string
	// Skew is the server's clock minus ours, to the second; 0 if it sent no Date.
	Skew time.Duration
}

// notableSkew is the difference of clocks that may explain a refusal.
const notableSkew = 30 * time.Second

// Error implements error.
func (e *TokenError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "authorization server answered %s (HTTP %d)", e.Code, e.Status)
	if e.Description != "" {
		fmt.Fprintf(&b, ": %s", e.Description)
	}
	if e.URI != "" {
		fmt.Fprintf(&b, " (%s)", e.URI)
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, ", retry after %s", e.RetryAfter)
	}
	if e.CorrelationID != "" {
		fmt.Fprintf(&b, ", request id %s", e.CorrelationID)
	}
	if e.Skew.Abs() > notableSkew {
		fmt.Fprintf(&b, "; the server's clock is %s ours by %s, which alone can make it refuse an assertion",
			map[bool]string{true: "ahead of", false: "behind"}[e.Skew > 0], e.Skew.Abs())
	}
	return b.String()
}

// Temporary reports whether the same request may work later.
func (e *TokenError) Temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status >= 500 || e.Code == "temporarily_unavailable" || e.Code == "server_error"
}

// Is reports whether target is the OAuth error of this code.
func (e *TokenError) Is(target error) bool {
	switch target {
	case ErrInvalidRequest, ErrInvalidClient, ErrInvalidGrant, ErrInvalidScope, ErrUnauthorizedClient, ErrUnsupportedGrantType:
		return target.Error() == e.Code
	}
	return false
}

// A CredentialError says that there was no credential to send: a secret source
// or a signer failed, and the server was not asked.
type CredentialError struct {
	// Op is what was being done: "look up client secret", "sign assertion".
	Op string
	// Err is the source's or signer's error.
	Err error
}

// Error implements error.
func (e *CredentialError) Error() string { return "provider: " + e.Op + ": " + e.Err.Error() }

// Unwrap returns the source's or signer's error.
func (e *CredentialError) Unwrap() error { return e.Err }
