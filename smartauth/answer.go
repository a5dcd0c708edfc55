package smartauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/redact"
	"github.com/smartcred/smartcred/provider"
)

// An answer is what came back from a token endpoint.
type answer struct {
	sent     bool // the request may have reached the server
	status   int
	header   http.Header
	body     []byte
	received time.Time
	skew     time.Duration // server's clock minus ours; 0 if it sent no Date
	problem  *ServerError  // what to return where it is no OAuth answer
}

// post sends form with a credential. It follows no redirect: the round tripper
// is called directly. answer.sent holds also after an error.
func (c *Client) post(ctx context.Context, op, endpoint string, form url.Values, cred provider.Credential) (a answer, err error) {
	header := http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"},
		"Accept":       {"application/json"},
		"User-Agent":   {c.cfg.UserAgent},
	}
	cred.Apply(header, form)
	sent := new(departure)
	ctx = sent.watch(ctx)
	defer func() { a.sent = sent.possible(err) }()

	if t := c.http.Timeout; t > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, t)
		defer stop()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return a, fmt.Errorf("smartauth: %s: the endpoint is no usable URL: %w", op, smartcred.ErrInvalidConfig)
	}
	req.Header = header
	began := time.Now()
	resp, err := c.http.Transport.RoundTrip(req)
	if err != nil {
		return a, c.serverError(op, nil, networkError(contextError(ctx, err)))
	}
	defer resp.Body.Close()
	a.received = time.Now()
	a.status, a.header = resp.StatusCode, resp.Header
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		// Date has whole seconds: compare with the middle of the exchange.
		a.skew = date.Add(500 * time.Millisecond).Sub(began.Add(a.received.Sub(began) / 2)).Round(time.Second)
	}
	a.problem = c.serverError(op, resp, nil)
	a.body, err = io.ReadAll(resp.Body)
	if err != nil {
		a.problem.Err = networkError(contextError(ctx, err))
		return a, a.problem
	}
	return a, nil
}

func contextError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// token reads the answer: a token, a [provider.TokenError] or a [ServerError].
func (a *answer) token(scopes []string, secrets *redact.Redactor) (*Token, error) {
	if err := a.oauthError(secrets); err != nil {
		return nil, err
	}
	if a.status < 200 || a.status > 299 {
		a.problem.Err = statusProblem(a.status)
		return nil, a.problem
	}
	token, err := ParseToken(a.body, scopes, a.received)
	if err != nil {
		a.problem.Err = err
		return nil, a.problem
	}
	return token, nil
}

// oauthError returns the OAuth error the answer holds, if it holds one. It does
// so whatever the status: servers send error bodies with 200 and 500 too.
func (a *answer) oauthError(secrets *redact.Redactor) error {
	clean := func(s string) string { return redact.Text(secrets.Clean(s), 256) }
	a.problem.CorrelationID = clean(correlationID(a.header))
	code, description, uri, ok := parseOAuthError(a.body)
	if !ok {
		return nil
	}
	return &provider.TokenError{
		Status: a.status, Code: errorCode(code, clean), Description: clean(description), URI: clean(uri),
		RetryAfter: retryAfter(a.header), CorrelationID: a.problem.CorrelationID, Skew: a.skew,
	}
}

// refuses reports whether err is a complete answer that says no, after which a
// code or refresh token has not been used up: an OAuth error, or 429, which is
// said before a request is looked at (RFC 6585 section 4). Whatever else stands
// between may have let the request through.
func (a *answer) refuses(err error) bool {
	var oauth *provider.TokenError
	return a.status < 500 && errors.As(err, &oauth) || a.status == http.StatusTooManyRequests
}

func statusProblem(status int) error {
	switch {
	case status >= 300 && status < 400:
		return errors.New("a redirect, which a credential does not follow; is the endpoint right?")
	case status == http.StatusTooManyRequests:
		return errors.New("too many requests")
	default:
		return errors.New("no OAuth answer")
	}
}

// correlationHeaders are the names under which servers and gateways send their
// request ids.
var correlationHeaders = []string{"X-Request-Id", "X-Correlation-Id", "Request-Id", "Correlation-Id", "X-Amzn-Requestid", "X-Okta-Request-Id", "X-Ms-Request-Id"}

func correlationID(h http.Header) string {
	for _, name := range correlationHeaders {
		if id := h.Get(name); id != "" {
			return id
		}
	}
	return ""
}

// maxRetryAfter caps what a server may ask for: a wrong unit must not stop a
// client for days.
const maxRetryAfter = time.Hour

// retryAfter reads Retry-After, RFC 9110 section 10.2.3: seconds or a date.
func retryAfter(h http.Header) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(at), 0), maxRetryAfter)
	}
	return 0
}

// retryAfterOf returns what the server asked for in the answer behind err.
func retryAfterOf(err error) time.Duration {
	var oauth *provider.TokenError
	var server *ServerError
	switch {
	case errors.As(err, &oauth):
		return oauth.RetryAfter
	case errors.As(err, &server):
		return server.RetryAfter
	}
	return 0
}

// A departure watches whether a request can have left this machine.
type departure struct{ asked, wrote atomic.Bool }

func (d *departure) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { d.asked.Store(true) },
		WroteHeaders: func() { d.wrote.Store(true) },
	})
}

// possible reports whether the request that ended with err may have reached the
// server. A transport that does not tell is not trusted to have sent nothing.
func (d *departure) possible(err error) bool {
	if d.asked.Load() {
		return d.wrote.Load()
	}
	var op *net.OpError
	return err == nil || !errors.As(err, &op) || op.Op != "dial"
}
