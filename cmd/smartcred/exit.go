package main

import (
	"errors"
	"net/http"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
)

// The exit statuses. They are a contract with scripts.
const (
	exitDone    = 0
	exitFound   = 1 // check or rotation status found something to act on
	exitUsage   = 2 // usage or configuration
	exitRefused = 3 // an OAuth error answer, 429 and 5xx aside; a back-off after such
	exitBackend = 4 // secret source or signer
	exitServer  = 5 // network, time-out, no OAuth answer, a grant's fate unknown
)

// errFound ends a command whose report says what to do.
var errFound = errors.New("there is something to act on")

// exitStatus says who failed. What the server answered comes before what went
// wrong besides: refused, with the previous secret out of reach, is refused.
func exitStatus(err error) int {
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	var answered *provider.TokenError
	var unreachable *smartauth.ServerError
	var noCredential *provider.CredentialError
	var everyRefused *provider.RefusedError
	switch {
	case err == nil:
		return exitDone
	case is(smartauth.ErrGrantUncertain):
		return exitServer
	case refused(err), errors.As(err, &everyRefused), is(smartauth.ErrState, smartauth.ErrIssuerMismatch):
		return exitRefused
	case errors.As(err, &answered), errors.As(err, &unreachable), is(smartauth.ErrEndpointNotAllowed):
		return exitServer
	case is(smartcred.ErrInvalidConfig, smartcred.ErrUnsupportedAlgorithm):
		return exitUsage
	case err == errFound:
		return exitFound
	case errors.As(err, &noCredential), is(smartcred.ErrNotFound, smartcred.ErrDenied, smartcred.ErrUnavailable):
		return exitBackend
	default:
		return exitServer
	}
}

// refused reports whether an OAuth error is anywhere in err's tree that says no,
// and not "later": 429 and 5xx are the server's trouble, whatever their body.
func refused(err error) bool {
	found := false
	walk(err, func(err error) bool {
		answer, ok := err.(*provider.TokenError)
		found = found || ok && answer.Status != http.StatusTooManyRequests && answer.Status < http.StatusInternalServerError
		return !found
	})
	return found
}

// walk calls visit for err and, as long as it returns true, for what err wraps,
// depth first. errors.As stops at the first match; joined errors have several.
func walk(err error, visit func(error) bool) {
	if err == nil || !visit(err) {
		return
	}
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		walk(wrapper.Unwrap(), visit)
	case interface{ Unwrap() []error }:
		for _, err := range wrapper.Unwrap() {
			walk(err, visit)
		}
	}
}
