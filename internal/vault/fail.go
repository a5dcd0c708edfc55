package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
)

// What Vault says in errors, where its status alone does not tell. Only these
// words are looked for; its text never goes into an error of ours.
const (
	saysInvalidToken = "invalid token"
	saysNoMount      = "no handler for route"
	saysSealed       = "sealed"
	saysUpgrading    = "will be unavailable for a brief period"
)

// checkRetry retries what Vault did not answer or can't answer yet. A quota
// (429) is none of it, its end is the caller's to wait for; nor is 500, which
// Transit answers to a version that may not sign.
func checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil && (errors.Is(err, errPlaintext) || errors.Is(err, errTooLong)) {
		return false, err
	}
	if resp != nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusInternalServerError) {
		return false, nil
	}
	return api.DefaultRetryPolicy(ctx, resp, err)
}

// A call says what is asked of Vault, for errors.
type call struct {
	capability string // the policy capability it needs
	path       string
}

// answer returns the status that Vault answered with and its words; 0 if it did
// not answer, but something else in its place.
func answer(err error) (status int, says func(string) bool) {
	var e *api.ResponseError
	if !errors.As(err, &e) || foreign(e) {
		return 0, func(string) bool { return false }
	}
	return e.StatusCode, func(words string) bool {
		for _, text := range e.Errors {
			if strings.Contains(text, words) {
				return true
			}
		}
		return false
	}
}

// foreign reports whether a refusal lacks the list of errors that Vault's have: a
// proxy's 404 is no word about a secret, nor its 403 about a token. Of 429 and 5xx
// the status is enough, whoever sent it.
func foreign(e *api.ResponseError) bool {
	return (e.RawError || e.Errors == nil) && e.StatusCode < 500 && e.StatusCode != http.StatusTooManyRequests
}

// fail makes one of smartcred's errors of what a call ended with. header is that
// of the answer, if there was one.
func (c call) fail(ctx context.Context, err error, header http.Header) error {
	status, says := answer(err)
	unavailable := func(reason string) error {
		return &smartcred.UnavailableError{RetryAfter: retryAfter(header), Err: errors.New(reason)}
	}
	switch {
	case ctx.Err() != nil && status == 0:
		return flight.Ended(ctx)
	case status == 0:
		return &smartcred.UnavailableError{Err: unanswered(err)}
	case status == http.StatusForbidden:
		return fmt.Errorf("%w: Vault answered 403: the token is not valid any more, or its policies lack the capability %q on path %q", smartcred.ErrDenied, c.capability, c.path)
	case status == http.StatusUnauthorized:
		return fmt.Errorf("%w: Vault answered 401 on path %q", smartcred.ErrDenied, c.path)
	case status == http.StatusNotFound && says(saysNoMount):
		return fmt.Errorf("%w: Vault has no secrets engine that serves path %q: check the mount, and the namespace", smartcred.ErrNotFound, c.path)
	case status == http.StatusNotFound:
		return fmt.Errorf("%w: Vault has nothing at path %q", smartcred.ErrNotFound, c.path)
	case status == http.StatusPreconditionFailed:
		return unavailable("Vault answered 412: the node has not caught up with its primary")
	case status == http.StatusTooManyRequests:
		return unavailable("Vault answered 429: a rate limit quota is used up")
	case status == 473 || status == 472:
		return unavailable(fmt.Sprintf("Vault answered %d: the node is a standby that does not serve requests", status))
	case status == http.StatusServiceUnavailable && says(saysSealed):
		return unavailable("Vault is sealed: somebody has to unseal it")
	case status == http.StatusRequestTimeout || status == http.StatusMisdirectedRequest || status >= 500:
		return &smartcred.UnavailableError{RetryAfter: retryAfter(header), Err: &Refusal{Status: status, Path: c.path, says: says}}
	case status == http.StatusBadRequest && says(saysUpgrading):
		return unavailable("Vault is upgrading the KV secrets engine")
	default:
		return &Refusal{Status: status, Path: c.path, says: says}
	}
}

// A Refusal is an answer that only the engine's own package can read. Where that
// does not, it is [smartcred.ErrDenied] with a 4xx status, and else the cause of
// a [smartcred.UnavailableError].
type Refusal struct {
	Status int
	Path   string
	says   func(string) bool
}

// Says reports whether Vault's errors hold words.
func (r *Refusal) Says(words string) bool { return r.says(words) }

// Error implements error.
func (r *Refusal) Error() string {
	text := fmt.Sprintf("Vault answered %d on path %q", r.Status, r.Path)
	if r.Status < 500 {
		text = smartcred.ErrDenied.Error() + ": " + text
	}
	return text
}

// Is reports whether target is [smartcred.ErrDenied], which a 5xx is not.
func (r *Refusal) Is(target error) bool { return target == smartcred.ErrDenied && r.Status < 500 }

// unanswered says why there was no answer, without what came in its place.
func unanswered(err error) error {
	var syntax *json.SyntaxError
	var shape *json.UnmarshalTypeError
	var address *url.Error
	switch {
	case errors.Is(err, errTooLong):
		return errTooLong
	case errors.As(err, &syntax), errors.As(err, &shape), errors.Is(err, io.ErrUnexpectedEOF):
		return errGarbage
	case errors.As(err, &address):
		return plainCause(address.Err)
	default:
		return plainCause(err) // the client's own time-out is not wrapped
	}
}

var errGarbage = errors.New("the answer is not Vault's: is there a proxy in front of it?")

// plainCause names what kept a request from its answer. net/http quotes bytes of
// malformed answers in its errors, so that only known ones are passed on.
func plainCause(err error) error {
	for _, known := range networkCauses {
		if known.is(err) {
			return fmt.Errorf("can't reach Vault: %s", known.text(err))
		}
	}
	return errGarbage
}

// retryAfter reads RFC 9110 section 10.2.3's header in seconds, as Vault sends it.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseUint(header.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
