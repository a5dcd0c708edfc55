package smartauthtest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Stage is the moment at which a [Fault] strikes.
type Stage int

const (
	// Arrival is before the request is looked at: nothing is checked or used up.
	Arrival Stage = iota
	// Accepted is once the request's credentials are found valid (for an
	// authorization request: all of it), before it takes effect: a code or
	// refresh token is not used up, the jti of an assertion is. Endpoints that
	// check no credentials never get there.
	Accepted
	// Done is once the request has taken its whole effect: a code or refresh
	// token is used up and the client does not learn the answer. Requests that
	// are refused anyway are left alone.
	Done
)

// An Echo says what an answer repeats of the credentials it got.
type Echo uint8

const (
	// EchoJSON repeats them in the error_description of a JSON error.
	EchoJSON Echo = 1 << iota
	// EchoHTML repeats them in an HTML page.
	EchoHTML
	// EchoHeaders repeats them in X-Request-Id, X-Correlation-Id and WWW-Authenticate.
	EchoHeaders
)

// A Fault is misbehaviour to order. One that sets none of Status, Error, Body,
// Redirect, Stream, Echo, Drop and Handler lets the request through: Delay,
// Header, Drip and Truncate then apply to the real answer.
type Fault struct {
	// Stage is when it strikes.
	Stage Stage
	// Times is how many requests it strikes; 0: all, until [Server.ClearFaults].
	Times int
	// OneIn strikes one request in that many, at random by Options.Seed; each if
	// 0 or 1. With Stage Accepted it refuses one in so many valid requests.
	OneIn int
	// ClientID limits it to requests of that client; all if empty.
	ClientID string

	// Status is the answer's status; if 0, what fits the rest.
	Status int
	// Header is added to the answer's, and replaces what has the same name.
	Header http.Header
	// Body is the answer's body; as JSON where it starts with {, else as HTML
	// where it starts with <, unless Header has a Content-Type.
	Body string
	// Error makes an OAuth error answer with this code, such as
	// "invalid_client", and Description. At the authorization endpoint, without
	// Status, it is sent to the redirect URI of a valid request.
	Error, Description string
	// Redirect is a Location to answer with, by status 307 if Status is 0.
	Redirect string
	// Echo repeats the request's credentials raw, form-encoded and in base64.
	Echo Echo
	// Stream sends a body of so many bytes (negative: without end) that starts
	// with Body or else with the beginning of a JSON string.
	Stream int64
	// Handler answers instead.
	Handler http.Handler

	// Delay is waited before the answer. The end of the request and
	// [Server.Close] cut it short.
	Delay time.Duration
	// Drip is waited before each byte of the body.
	Drip time.Duration
	// Drop cuts the connection in place of an answer. (net/http sends a GET
	// again by itself when a connection that it used before is cut.)
	Drop bool
	// Truncate cuts the connection after that many bytes of the body.
	Truncate int
}

func (f *Fault) replaces() bool {
	return f.Status != 0 || f.Error != "" || f.Body != "" || f.Redirect != "" || f.Stream != 0 ||
		f.Echo != 0 || f.Drop || f.Handler != nil
}

// Fail orders faults at an endpoint. Each request is struck by the first one in
// line that its stage, client and chance fit; one that has struck its Times
// leaves the line.
func (s *Server) Fail(endpoint Endpoint, faults ...Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if s.faults.lines == nil {
		s.faults.lines = make(map[Endpoint][]*Fault)
	}
	for _, f := range faults {
		if endpoint == EndpointAuthorize && f.Error != "" && f.Status == 0 {
			f.Stage = Accepted
		}
		f.Header = f.Header.Clone()
		s.faults.lines[endpoint] = append(s.faults.lines[endpoint], &f)
	}
	s.faults.any.Store(true)
}

// ClearFaults takes back all faults ordered at the endpoints; at every endpoint
// if none is named. Requests already struck end as ordered.
func (s *Server) ClearFaults(endpoints ...Endpoint) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if len(endpoints) == 0 {
		clear(s.faults.lines)
	}
	for _, e := range endpoints {
		delete(s.faults.lines, e)
	}
	s.faults.any.Store(len(s.faults.lines) > 0)
}

type faultQueue struct {
	any   atomic.Bool
	mu    sync.Mutex
	rng   *rand.Rand
	lines map[Endpoint][]*Fault
}

func (q *faultQueue) take(endpoint Endpoint, stage Stage, clientID string) *Fault {
	if !q.any.Load() {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, f := range q.lines[endpoint] {
		if f.Stage != stage || f.ClientID != "" && f.ClientID != clientID {
			continue
		}
		if f.OneIn > 1 && q.rng.IntN(f.OneIn) != 0 {
			continue
		}
		struck := *f
		if f.Times == 1 {
			q.lines[endpoint] = slices.Delete(q.lines[endpoint], i, i+1)
		} else if f.Times > 1 {
			f.Times--
		}
		return &struck
	}
	return nil
}

// interrupt applies the fault in line for this stage, if there is one. It
// returns nil when the request goes on.
func (s *Server) interrupt(x *exchange, stage Stage) *answer {
	f := s.faults.take(x.endpoint, stage, x.entry.ClientID)
	if f == nil {
		return nil
	}
	if !s.pause(x.Context(), f.Delay) {
		f = &Fault{Drop: true}
	}
	x.shape = f
	if !f.replaces() {
		return nil
	}
	return f.answer(x)
}

func (f *Fault) answer(x *exchange) *answer {
	ans := &answer{status: http.StatusOK, header: make(http.Header), body: []byte(f.Body), fault: true}
	contentType := "text/plain; charset=utf-8"
	switch {
	case strings.HasPrefix(f.Body, "{"):
		contentType = "application/json"
	case strings.HasPrefix(f.Body, "<"):
		contentType = "text/html; charset=utf-8"
	}
	code, description := f.Error, f.Description
	var echoed string
	if f.Echo != 0 {
		ans.status = http.StatusBadRequest
		echoed = strings.Join(credentialsOf(x), " ")
		if code == "" {
			code = "invalid_request"
		}
	}
	if f.Echo&EchoJSON != 0 {
		description = strings.TrimSpace(description + " " + echoed)
	}
	switch {
	case f.Echo&EchoHTML != 0:
		contentType = "text/html; charset=utf-8"
		ans.body = fmt.Appendf(nil, "<html><body><h1>Error</h1><pre>%s</pre></body></html>\n", echoed)
	case code != "" && f.Body == "":
		contentType = "application/json"
		ans.body = rawErrorJSON(code, description)
		ans.status = http.StatusBadRequest
		if code == "invalid_client" {
			ans.status = http.StatusUnauthorized
		}
	}
	if ans.errno = code; f.Echo&EchoHeaders != 0 {
		oneLine := strings.Map(func(r rune) rune {
			if r < ' ' {
				return -1
			}
			return r
		}, echoed)
		ans.header.Set("X-Request-Id", oneLine)
		ans.header.Set("X-Correlation-Id", oneLine)
		ans.header.Set("WWW-Authenticate", `Bearer error="`+code+`", error_description="`+oneLine+`"`)
	}
	if f.Redirect != "" {
		ans.status = http.StatusTemporaryRedirect
		ans.header.Set("Location", f.Redirect)
	}
	if f.Status != 0 {
		ans.status = f.Status
	}
	ans.header.Set("Content-Type", contentType)
	return ans
}

// credentialsOf lists what is secret in a request, in the spellings a careless
// server may repeat it in.
func credentialsOf(x *exchange) []string {
	var raw []string
	for _, value := range x.Header.Values("Authorization") {
		raw = append(raw, value)
		scheme, token, _ := strings.Cut(value, " ")
		raw = append(raw, token)
		if decoded, err := base64.StdEncoding.DecodeString(token); err == nil && strings.EqualFold(scheme, "Basic") {
			_, secret, _ := strings.Cut(string(decoded), ":")
			raw = append(raw, string(decoded), secret)
			if unescaped, err := url.QueryUnescape(secret); err == nil {
				raw = append(raw, unescaped)
			}
		}
	}
	for _, values := range []url.Values{x.form, x.query} {
		for _, name := range []string{"client_secret", "client_assertion", "code", "code_verifier", "refresh_token", "token", "access_token", "state"} {
			raw = append(raw, values[name]...)
		}
	}
	if len(x.body) > 0 {
		raw = append(raw, string(x.body))
	}
	var all []string
	for _, value := range raw {
		all = append(all, value, url.QueryEscape(value), url.PathEscape(value),
			base64.StdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// send writes ans as the fault that struck, if one did, shapes it.
func (s *Server) send(w http.ResponseWriter, x *exchange, ans *answer) {
	f := x.shape
	dropped := f != nil && f.Drop
	s.log.update(func() {
		x.entry.Fault, x.entry.Error, x.entry.Reason = ans.fault, ans.errno, ans.reason
		if !dropped {
			x.entry.Status = ans.status
		}
	})
	if f == nil {
		s.write(w, ans)
		return
	}
	if dropped {
		panic(http.ErrAbortHandler)
	}
	if f.Handler != nil {
		s.writeHeader(w, f.Header)
		rec := &statusRecorder{ResponseWriter: w}
		x.Request.Body = io.NopCloser(bytes.NewReader(x.body))
		f.Handler.ServeHTTP(rec, x.Request)
		s.log.update(func() { x.entry.Status = rec.status })
		return
	}
	for name, values := range f.Header {
		ans.header[http.CanonicalHeaderKey(name)] = values
	}
	if f.Drip == 0 && f.Truncate == 0 && f.Stream == 0 {
		s.write(w, ans)
		return
	}
	s.writeHeader(w, ans.header)
	if f.Stream == 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(ans.body)))
	}
	w.WriteHeader(ans.status)
	s.trickle(w, x, f, ans.body)
}

func (s *Server) trickle(w http.ResponseWriter, x *exchange, f *Fault, body []byte) {
	flush := http.NewResponseController(w).Flush
	if f.Stream != 0 {
		if len(body) == 0 {
			body = []byte(`{"error":"`)
		}
		filler := bytes.Repeat([]byte("a"), 32<<10)
		for left := f.Stream; left != 0; body = filler {
			chunk := body
			if left > 0 {
				chunk = chunk[:min(int64(len(chunk)), left)]
				left -= int64(len(chunk))
			}
			if !s.drip(w, x, f.Drip, chunk) {
				panic(http.ErrAbortHandler)
			}
		}
		return
	}
	if f.Truncate > 0 && f.Truncate < len(body) {
		s.drip(w, x, f.Drip, body[:f.Truncate])
		_ = flush()
		panic(http.ErrAbortHandler)
	}
	if !s.drip(w, x, f.Drip, body) {
		panic(http.ErrAbortHandler)
	}
}

// drip writes body, byte by byte when there is an interval, and reports whether
// the client took it.
func (s *Server) drip(w http.ResponseWriter, x *exchange, interval time.Duration, body []byte) bool {
	select {
	case <-s.done:
		return false
	default:
	}
	if interval <= 0 {
		_, err := w.Write(body)
		return err == nil
	}
	flush := http.NewResponseController(w).Flush
	for i := range body {
		if !s.pause(x.Context(), interval) {
			return false
		}
		if _, err := w.Write(body[i : i+1]); err != nil || flush() != nil {
			return false
		}
	}
	return true
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *statusRecorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets [http.ResponseController] reach the real writer.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
