package smartauthtest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// An Endpoint is one of the server's endpoints.
type Endpoint string

// The endpoints.
const (
	EndpointConfiguration Endpoint = "configuration" // SMART configuration, OpenID configuration
	EndpointAuthorize     Endpoint = "authorize"
	EndpointToken         Endpoint = "token"
	EndpointIntrospect    Endpoint = "introspect"
	EndpointRevoke        Endpoint = "revoke"
	EndpointJWKS          Endpoint = "jwks" // the server's own keys
	EndpointFHIR          Endpoint = "fhir" // everything else below the FHIR base URL
	EndpointOther         Endpoint = "other"
)

// A Request is what the server got and how it answered. It holds credentials as
// they came. Its maps and slices are to be read only.
type Request struct {
	Endpoint Endpoint
	Time     time.Time // arrival, by the server's clock
	Method   string
	URI      string // path and query
	Header   http.Header
	Query    url.Values
	Form     url.Values // of a form body
	Body     []byte     // only where it is no form that the server takes

	// ClientID is who the client says it is, checked or not.
	ClientID string
	// AuthMethod is how it authenticates: a name as [AuthClientSecretBasic],
	// "bearer", or empty.
	AuthMethod string
	// AssertionHeader and AssertionClaims are the client assertion's, decoded
	// but unverified; nil without one. Numbers are json.Number.
	AssertionHeader, AssertionClaims map[string]any

	// Status is the answer's status; 0 while there is none or where the
	// connection was cut before it.
	Status int
	// Error is the OAuth error code, Reason what was wrong with the request.
	Error, Reason string
	// Fault is set when a [Fault] made the answer.
	Fault bool
}

type logEntry struct {
	Request
	assertion string
}

// A requestLog keeps the newest entries in a ring.
type requestLog struct {
	limit int

	mu     sync.Mutex
	ring   []*logEntry
	next   int // where the oldest is, once the ring is full
	counts map[Endpoint]int
}

func (l *requestLog) arrive(e *logEntry) *logEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = make(map[Endpoint]int)
	}
	l.counts[e.Endpoint]++
	switch {
	case l.limit < 0:
	case len(l.ring) < l.limit:
		l.ring = append(l.ring, e)
	default:
		l.ring[l.next] = e
		l.next = (l.next + 1) % l.limit
	}
	return e
}

func (l *requestLog) update(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (s *Server) newEntry(x *exchange) *logEntry {
	e := &logEntry{Request: Request{
		Endpoint: x.endpoint, Time: s.now(), Method: x.Method, URI: x.RequestURI,
		Header: x.Header, Query: x.query, Form: x.form,
	}}
	if x.formErr != nil {
		e.Body = x.body
	}
	e.ClientID, e.AuthMethod, e.assertion = s.claimedIdentity(x)
	return e
}

// Requests returns the requests kept, oldest first, also those that are still
// being answered.
func (s *Server) Requests() []Request {
	return s.log.list(func(*logEntry) bool { return true })
}

// RequestsTo returns the requests to one endpoint that are kept, oldest first.
func (s *Server) RequestsTo(endpoint Endpoint) []Request {
	return s.log.list(func(e *logEntry) bool { return e.Endpoint == endpoint })
}

func (l *requestLog) list(want func(*logEntry) bool) []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Request
	for i := range l.ring {
		e := l.ring[(l.next+i)%len(l.ring)]
		if want(e) {
			r := e.Request
			r.Header = r.Header.Clone()
			r.AssertionHeader, r.AssertionClaims = decodeAssertion(e.assertion)
			list = append(list, r)
		}
	}
	return list
}

// Count returns how many requests an endpoint has got since the start or the
// last [Server.ResetRequests], kept or not.
func (s *Server) Count(endpoint Endpoint) int {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.counts[endpoint]
}

// TokenRequests is Count of the token endpoint.
func (s *Server) TokenRequests() int { return s.Count(EndpointToken) }

// ResetRequests forgets all requests and counts.
func (s *Server) ResetRequests() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.ring, s.log.next, s.log.counts = nil, 0, nil
}

func decodeAssertion(jwt string) (header, claims map[string]any) {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return nil, nil
	}
	decode := func(segment string) (members map[string]any) {
		raw, err := decodeSegment(segment)
		if err != nil {
			return nil
		}
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.UseNumber()
		if dec.Decode(&members) != nil {
			return nil
		}
		return members
	}
	return decode(parts[0]), decode(parts[1])
}
