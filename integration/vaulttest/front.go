package vaulttest

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// A Front stands in front of a server and takes HTTP requests, under a
// certificate of the same authority: it counts them, and can answer in the
// server's place. Its methods may be called at any time.
type Front struct {
	Address string // https://127.0.0.1:port

	mu       sync.Mutex
	requests []Request
	doing    *doing
}

// doing is what a front does with requests between two changes.
type doing struct {
	answer http.Handler  // nil: the server's
	cut    bool          // the server's answer, by half
	over   chan struct{} // closed by the change after it
}

// A Request is one that reached a [Front].
type Request struct {
	Method string
	Path   string // as it was sent, with /v1/
	Header http.Header
}

// NewFront starts a front that passes everything on, and ends with the test.
func NewFront(t testing.TB, s *Server) *Front {
	t.Helper()
	target, err := url.Parse(s.Address)
	if err != nil {
		t.Fatalf("vaulttest: %v", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConnsPerHost = 200 // as many as there are callers in tests
	transport.TLSClientConfig = &tls.Config{RootCAs: s.ca.pool}
	quiet := log.New(io.Discard, "", 0)
	f := &Front{doing: &doing{over: make(chan struct{})}}
	pass := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      transport,
		ErrorLog:       quiet,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ModifyResponse: halve,
		FlushInterval:  -1, // the half before the cut is to arrive
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, Request{Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone()})
		now := f.doing
		f.mu.Unlock()
		answer := now.answer
		if answer == nil {
			answer = pass
		}
		answer.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), doingKey{}, now)))
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{s.ca.cert}}
	server.Config.ErrorLog = quiet
	server.StartTLS()
	f.Address = server.URL
	t.Cleanup(func() {
		f.Pass() // a stalled request would keep Close waiting
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return f
}

// Requests returns the requests since the beginning or Reset.
func (f *Front) Requests() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Request(nil), f.requests...)
}

// Count returns how many requests had the method, if one is given, and a path
// that begins with prefix, which is without /v1/.
func (f *Front) Count(method, prefix string) int {
	n := 0
	for _, r := range f.Requests() {
		if (method == "" || r.Method == method) && strings.HasPrefix(r.Path, "/v1/"+prefix) {
			n++
		}
	}
	return n
}

// Reset forgets the requests so far.
func (f *Front) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = nil
}

// Pass leaves the answers to the server, as at the beginning.
func (f *Front) Pass() { f.do(&doing{}) }

// Answer has h answer in the server's place.
func (f *Front) Answer(h http.Handler) { f.do(&doing{answer: h}) }

// CutAnswers passes requests on, and cuts the connection after half of the
// server's answer, which has then done what it was asked to.
func (f *Front) CutAnswers() { f.do(&doing{cut: true}) }

func (f *Front) do(next *doing) {
	next.over = make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.doing.over)
	f.doing = next
}

type doingKey struct{}

// halve shortens an answer that is to be cut.
func halve(resp *http.Response) error {
	if now := resp.Request.Context().Value(doingKey{}).(*doing); now.cut {
		half := io.LimitReader(resp.Body, max(1, resp.ContentLength/2))
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(half, broken{}), resp.Body}
	}
	return nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// AnswerStatus answers every request with a status and Vault's form of an
// error; headers (Retry-After, for one) are name and value in turn.
func (f *Front) AnswerStatus(status int, headers ...string) {
	f.Answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, `{"errors":["`+http.StatusText(status)+`"]}`)
	}))
}

// Stall reads requests and answers none until the next change, when it cuts
// them off.
func (f *Front) Stall() {
	f.Answer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Value(doingKey{}).(*doing).over:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}))
}

// Garble answers every request with a status and what no Vault says: all that
// it was sent, the token included, as text and inside the members where an
// error or a value would be.
func (f *Front) Garble(status int) {
	f.Answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := httputil.DumpRequest(r, true)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		echo := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\r\n", `\n`, "\n", `\n`).Replace(string(sent))
		io.WriteString(w, `{"errors":["`+echo+`"],"warnings":["`+echo+`"],"data":{"signature":"`+echo+`","keys":"`+echo+`","data":"`+echo+`"},"auth":"`+echo+`"} `)
		w.Write(sent)
	}))
}
