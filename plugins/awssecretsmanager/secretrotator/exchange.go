package secretrotator

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/strictjson"
)

const (
	maxBody        = 1 << 20
	defaultTimeout = 30 * time.Second
)

// An exchanger sends JSON to one endpoint and reads JSON. It follows no
// redirect, has no cookies, and speaks TLS 1.2 or later.
type exchanger struct {
	client  *http.Client
	timeout time.Duration
}

func newExchanger(caller *http.Client, timeout time.Duration) exchanger {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if caller != nil {
		client.Transport, client.Timeout = caller.Transport, caller.Timeout
	}
	if client.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		t.MaxResponseHeaderBytes = 64 << 10
		t.DisableKeepAlives = true // one request in weeks: no connection, nor its goroutine, is kept
		client.Transport = t
	}
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	return exchanger{client, timeout}
}

// errNoAnswer says that a request was sent, or may have been, and that nobody
// knows what it did.
var errNoAnswer = errors.New("no answer came that can be relied on")

// do sends body, if there is one, and returns the JSON object of the answer if
// its status is 200. Errors hold nothing of what either side wrote.
func (x exchanger) do(ctx context.Context, method, endpoint, bearer string, body []byte) (*strictjson.Obj, error) {
	ctx, cancel := context.WithTimeout(ctx, x.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the request can't be made") // the cause quotes the URL
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("User-Agent", "smartcred")
	resp, err := x.client.Do(req)
	if err != nil {
		return nil, unanswered(networkError(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, unanswered(networkError(err))
	case len(text) > maxBody:
		return nil, unanswered(fmt.Errorf("the answer is over %d bytes", maxBody))
	}
	if mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return nil, unanswered(errors.New("HTTP 200, but the answer is not application/json"))
	}
	o, err := strictjson.Object(text)
	if err == nil && len(o.Duplicates) > 0 {
		err = errors.New("a member appears twice")
	}
	if err != nil {
		return nil, unanswered(fmt.Errorf("HTTP 200, but the answer is no JSON object: %w", err))
	}
	return o, nil
}

func unanswered(cause error) error {
	return &smartcred.UnavailableError{Err: fmt.Errorf("%w: %w", errNoAnswer, cause)}
}

// statusError tells an answer that says no from one that says later.
func statusError(resp *http.Response) error {
	status := resp.StatusCode
	answered := fmt.Errorf("HTTP %d", status)
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Errorf("%w: %w", answered, smartcred.ErrDenied)
	case status == http.StatusNotFound || status == http.StatusGone:
		return fmt.Errorf("%w: %w", answered, smartcred.ErrNotFound)
	case status >= 300 && status < 400:
		return fmt.Errorf("%w: redirects are not followed: give the URL that they lead to", answered)
	case status == http.StatusRequestTimeout || status == http.StatusTooEarly || status == http.StatusTooManyRequests:
		return &smartcred.UnavailableError{RetryAfter: retryAfter(resp), Err: answered}
	case status >= 500 || status < 300:
		return &smartcred.UnavailableError{RetryAfter: retryAfter(resp), Err: fmt.Errorf("%w: %w", errNoAnswer, answered)}
	default:
		return fmt.Errorf("%w: it refuses the request: its own log says why", answered)
	}
}

// retryAfter reads the header's seconds, RFC 9110 section 10.2.3; 0 if there are none.
func retryAfter(resp *http.Response) time.Duration {
	n, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// networkError keeps errors that are known to hold nothing that a server sent:
// net/http quotes malformed answers.
func networkError(err error) error {
	for _, known := range []error{
		context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE,
	} {
		if errors.Is(err, known) {
			return known
		}
	}
	var op *net.OpError
	var dns *net.DNSError
	var timeout net.Error
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &host):
		return errors.New("the server's certificate is for another name")
	case errors.As(err, &authority):
		return errors.New("the server's certificate is of an unknown authority")
	case errors.As(err, &certificate):
		return errors.New("the server's certificate does not verify")
	case errors.As(err, &dns):
		return dns
	case errors.As(err, &op):
		return op
	case errors.As(err, &timeout) && timeout.Timeout():
		return context.DeadlineExceeded
	}
	return errors.New("the connection broke, or what came back is no HTTP")
}

// checkURL refuses what credentials must not be sent to. Its error never holds
// the URL.
func checkURL(option, raw string, insecureLoopback bool) error {
	problem := ""
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		problem = "is missing"
	case err != nil || u.Host == "" || u.Hostname() == "":
		problem = "is no absolute URL"
	case u.User != nil:
		problem = "has a user name or password in it; credentials have their own options"
	case u.Fragment != "":
		problem = "has a fragment"
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		problem = "is not https"
	case !isLoopback(u.Hostname()):
		problem = "is http; only https is used, but for loopback addresses where that is allowed"
	case insecureLoopback:
		return nil
	default:
		problem = "is http on loopback; allow_insecure_loopback allows it, for tests"
	}
	return &smartcred.ConfigError{Option: option, Problem: problem}
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// isBearer reports whether s can stand in an Authorization header: b64token,
// RFC 6750 section 2.1.
func isBearer(s string) bool {
	s = strings.TrimRight(s, "=")
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/") == ""
}
