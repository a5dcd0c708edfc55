package smartauthtest

import (
	"math/rand/v2"
	"net/http"
	"slices"
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
	// Echo repeats the request's credentials raw, form-encoded and in base64. A
	// Body goes before EchoJSON.
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
