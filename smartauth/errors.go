package smartauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Errors of this package beside [provider.TokenError] and [ServerError]. Match
// them with [errors.Is].
var (
	// ErrGrantUncertain says that a code or refresh token was sent and that no
	// complete answer came back: the server may have used it up. It is not sent
	// again; the user has to log in again if the session does not go on.
	ErrGrantUncertain = errors.New("the grant may have been used up")

	// ErrEndpointNotAllowed says that a discovery document names an endpoint
	// that a credential must not be sent to: not https, outside
	// [Config.AllowedAuthHosts], or another origin than the pinned one.
	ErrEndpointNotAllowed = errors.New("endpoint not allowed")

	// ErrState says that a callback's state is missing, wrong or used before:
	// the browser was not sent by the launch that is being completed.
	ErrState = errors.New("state does not match")

	// ErrIssuerMismatch says that a callback's iss (RFC 9207) or an id token's
	// is another issuer than the expected one.
	ErrIssuerMismatch = errors.New("issuer does not match")

	// ErrLaunchExpired says that a callback came after [Config.LaunchTimeout].
	ErrLaunchExpired = errors.New("launch has expired")

	// ErrIDToken says that an id token did not verify.
	ErrIDToken = errors.New("id token not valid")

	// ErrNotSupported says that the server has no endpoint for what was asked.
	ErrNotSupported = errors.New("not supported by the server")
)

// A ServerError says that the authorization server could not be asked, or gave
// an answer that is no OAuth answer. It holds nothing of the answer's body.
type ServerError struct {
	// Op says what was being done: "token request", "discovery".
	Op string
	// Status is the HTTP status; 0 if there was no answer.
	Status int
	// ContentType is the answer's media type, where it is a common one.
	ContentType string
	// RetryAfter is what the server asked for; 0 if nothing.
	RetryAfter time.Duration
	// CorrelationID is the server's request id; empty if it sent none.
	CorrelationID string
	// Err is the cause.
	Err error
}

// Error implements error.
func (e *ServerError) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": HTTP %d", e.Status)
	}
	if e.ContentType != "" {
		fmt.Fprintf(&b, " %s", e.ContentType)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %s", e.Err)
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, ", retry after %s", e.RetryAfter)
	}
	if e.CorrelationID != "" {
		fmt.Fprintf(&b, ", request id %s", e.CorrelationID)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *ServerError) Unwrap() error { return e.Err }

// HTTPStatus returns Status: package provider looks whether it is a bare 401.
func (e *ServerError) HTTPStatus() int { return e.Status }

// serverError is a [ServerError] of resp, which may be nil.
func serverError(op string, resp *http.Response, err error) *ServerError {
	e := &ServerError{Op: "smartauth: " + op, Err: err}
	if resp == nil {
		return e
	}
	e.Status = resp.StatusCode
	e.RetryAfter = retryAfter(resp.Header)
	e.ContentType = knownMediaType(resp.Header.Get("Content-Type"))
	return e
}

// knownMediaTypes are those a ServerError names. The header is text of the
// server's, and could hold what the request had in it.
var knownMediaTypes = []string{
	"application/json", "application/fhir+json", "application/problem+json", "application/xml",
	"application/fhir+xml", "text/html", "text/plain", "text/xml",
}

func knownMediaType(header string) string {
	mediaType, _, err := mime.ParseMediaType(header)
	if err != nil || !slices.Contains(knownMediaTypes, mediaType) {
		return ""
	}
	return mediaType
}

var errNotHTTP = errors.New("the connection broke, or what came back is no HTTP")

// networkError keeps errors that are known to hold nothing the server sent, and
// replaces the others: net/http quotes malformed answers.
func networkError(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	for _, known := range []error{
		context.Canceled, context.DeadlineExceeded, errBodyTooLarge, errOldTLS, errTooManyRedirects,
		io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE,
	} {
		if errors.Is(err, known) {
			return known
		}
	}
	if isA[*net.OpError](err) || isA[*net.DNSError](err) || isA[*tls.CertificateVerificationError](err) ||
		isA[x509.HostnameError](err) || isA[x509.UnknownAuthorityError](err) || isA[tls.AlertError](err) {
		return err
	}
	if isA[tls.RecordHeaderError](err) {
		return errors.New("the server does not speak TLS")
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return context.DeadlineExceeded
	}
	return errNotHTTP
}

func isA[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}
