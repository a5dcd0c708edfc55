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

	// ErrIssuerMismatch says that a callback's iss (RFC 9207), an id token's or a
	// discovered one is another issuer than the expected one, or one that does
	// not stand by the server that names it.
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
	// Server is the server asked, by its FHIR base URL.
	Server string
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
	fmt.Fprintf(&b, "smartauth: %s", e.Op)
	if e.Server != "" {
		fmt.Fprintf(&b, " at %s", e.Server)
	}
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

// serverError is a [ServerError] of resp, which may be nil, at the client's server.
func (c *Client) serverError(op string, resp *http.Response, err error) *ServerError {
	e := serverError(op, resp, err)
	e.Server = c.cfg.BaseURL
	return e
}

func serverError(op string, resp *http.Response, err error) *ServerError {
	e := &ServerError{Op: op, Err: err}
	if resp == nil {
		return e
	}
	e.Status = resp.StatusCode
	e.RetryAfter = retryAfter(resp.Header)
	e.ContentType = knownMediaType(resp.Header.Get("Content-Type"))
	return e
}

// Temporary reports whether the same request may work later.
func (e *ServerError) Temporary() bool {
	return e.Status == 0 || e.Status == http.StatusTooManyRequests || e.Status >= 500
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

// plainErrors are errors of net/http that are known by their text only, and hold
// nothing the server sent.
var plainErrors = map[string]string{
	"http: server gave HTTP response to HTTPS client": "the server speaks http where https is asked for",
	"http: server closed idle connection":             "the server closed the connection",
	"Proxy Authentication Required":                   "the proxy wants its user to authenticate",
}

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
	if cert := certificateError(err); cert != nil {
		return cert
	}
	if isA[*net.OpError](err) || isA[*net.DNSError](err) {
		return err
	}
	if isA[tls.RecordHeaderError](err) {
		return errors.New("the server does not speak TLS")
	}
	if text, ok := plainErrors[err.Error()]; ok {
		return errors.New(text)
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return context.DeadlineExceeded
	}
	return errNotHTTP
}

// certificateError says what is wrong with a certificate without quoting it:
// anybody can put text into one.
func certificateError(err error) error {
	var invalid x509.CertificateInvalidError
	switch {
	case isA[x509.HostnameError](err):
		return errors.New("the server's certificate is for another name")
	case isA[x509.UnknownAuthorityError](err):
		return errors.New("the server's certificate is of an unknown authority: is a ca_file missing?")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return errors.New("the server's certificate has expired or is not valid yet; or our clock is wrong")
	case errors.As(err, &invalid), isA[*tls.CertificateVerificationError](err):
		return errors.New("the server's certificate does not verify")
	case isA[tls.AlertError](err):
		return errors.New("the server broke the TLS handshake off: does it want a client certificate?")
	}
	return nil
}

func isA[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}
