package smartauthtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Server is a SMART authorization server and a FHIR server in memory. Its
// methods are safe for concurrent use; its fields are to be read only.
type Server struct {
	URL              string // FHIR base URL, without a final slash
	Issuer           string // iss of id_tokens and of authorization responses
	ConfigurationURL string // the SMART configuration
	AuthorizeURL     string
	TokenURL         string
	IntrospectionURL string
	RevocationURL    string
	JWKSURL          string // the server's own keys, for id_tokens

	opts     Options
	basePath string
	http     *httptest.Server // nil when unstarted
	done     chan struct{}    // closed by Close
	close    func()

	clientsMu sync.RWMutex
	clients   map[string]*client

	grants   grants
	replays  replayCache
	faults   faultQueue
	log      requestLog
	config   configuration
	patients patientStore
	idKeys   idKeys
}

// NewServer starts a server on a free loopback port and closes it when the test
// ends. It fails the test when it can't.
func NewServer(t testing.TB, opts *Options) *Server {
	t.Helper()
	s, err := Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start starts a server on a free loopback port, for programs that are no
// tests. The caller closes it.
func Start(opts *Options) (*Server, error) {
	o := opts.withDefaults()
	base, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("smartauthtest: start server: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("smartauthtest: start server: %w", err)
	}
	scheme := "http"
	if o.TLS {
		scheme = "https"
	}
	s := newServer(o, scheme+"://"+listener.Addr().String(), base.EscapedPath())
	s.http = &httptest.Server{
		Listener: listener,
		Config:   &http.Server{Handler: s.Handler(), ErrorLog: log.New(io.Discard, "", 0)},
	}
	if o.TLS {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	return s, nil
}

// NewUnstarted makes a server that listens nowhere; requests reach it through
// [Server.Client], [Server.Transport] or [Server.Handler]. It panics when
// Options.URL is no absolute URL.
func NewUnstarted(opts *Options) *Server {
	o := opts.withDefaults()
	base, err := url.Parse(o.URL)
	if err != nil || base.Scheme == "" || base.Host == "" {
		panic(fmt.Sprintf("smartauthtest: Options.URL %q is no absolute URL", o.URL))
	}
	return newServer(o, base.Scheme+"://"+base.Host, base.EscapedPath())
}

func newServer(o Options, origin, basePath string) *Server {
	basePath = strings.TrimRight(basePath, "/")
	s := &Server{
		URL:              origin + basePath,
		Issuer:           origin + "/auth",
		ConfigurationURL: origin + basePath + "/.well-known/smart-configuration",
		AuthorizeURL:     origin + "/auth/authorize",
		TokenURL:         origin + "/auth/token",
		IntrospectionURL: origin + "/auth/introspect",
		RevocationURL:    origin + "/auth/revoke",
		JWKSURL:          origin + "/auth/jwks",
		opts:             o,
		basePath:         basePath,
		done:             make(chan struct{}),
		clients:          make(map[string]*client),
	}
	s.close = sync.OnceFunc(func() { close(s.done) })
	s.grants.init()
	s.faults.rng = rand.New(rand.NewPCG(o.Seed, 0))
	s.log.limit = o.MaxRequests
	s.idKeys.first = o.SigningKey
	s.config.cache = "max-age=300"
	s.patients.init()
	return s
}

// Close ends all requests that are being answered and stops listening.
func (s *Server) Close() {
	s.close()
	if s.http != nil {
		s.http.CloseClientConnections()
		s.http.Close()
	}
}

// Client returns an HTTP client for the server: it trusts its certificate, or
// needs no network when the server is unstarted.
func (s *Server) Client() *http.Client {
	if s.http != nil {
		return s.http.Client()
	}
	return &http.Client{Transport: s.Transport()}
}

// Handler returns the server as a handler.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Server) now() time.Time { return s.opts.Clock() }

func (s *Server) scheme() string { scheme, _, _ := strings.Cut(s.URL, ":"); return scheme }

// An exchange is one request and what is known about it so far.
type exchange struct {
	*http.Request
	endpoint Endpoint
	body     []byte
	bodyErr  error
	query    url.Values
	queryErr error
	form     url.Values // of a form body
	formErr  error
	entry    *logEntry
	shape    *Fault // changes the real answer
}

// postedTo is the URL as the client wrote it.
func (x *exchange) postedTo(s *Server) string {
	return s.scheme() + "://" + x.Host + x.URL.RequestURI()
}

// An answer is what goes back, unless a fault intervenes.
type answer struct {
	status int
	header http.Header
	body   []byte
	errno  string // OAuth error code
	reason string // why it was refused, for the log
	fault  bool   // made by a Fault
}

func (s *Server) route(path string) (Endpoint, func(*exchange) *answer) {
	switch path {
	case s.basePath + "/.well-known/smart-configuration":
		return EndpointConfiguration, s.serveConfiguration
	case "/auth/.well-known/openid-configuration":
		return EndpointConfiguration, s.serveOpenIDConfiguration
	case "/auth/authorize":
		return EndpointAuthorize, s.serveAuthorize
	case "/auth/token":
		return EndpointToken, s.serveToken
	case "/auth/introspect":
		return EndpointIntrospect, s.serveIntrospect
	case "/auth/revoke":
		return EndpointRevoke, s.serveRevoke
	case "/auth/jwks":
		return EndpointJWKS, s.serveJWKS
	}
	if strings.HasPrefix(path, s.basePath+"/") {
		return EndpointFHIR, s.serveFHIR
	}
	return EndpointOther, func(*exchange) *answer { return plain(http.StatusNotFound, "not found\n") }
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	endpoint, handle := s.route(r.URL.EscapedPath())
	x := &exchange{Request: r, endpoint: endpoint}
	x.query, x.queryErr = parseForm(r.URL.RawQuery)
	if r.Body != nil {
		x.body, x.bodyErr = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	}
	x.form, x.formErr = parseForm(string(x.body))
	if err := checkFormType(r.Header); err != nil {
		x.formErr = err
	}
	if x.bodyErr != nil {
		x.formErr = errors.New("the body can't be read")
	}
	x.entry = s.log.arrive(s.newEntry(x))

	ans := s.interrupt(x, Arrival)
	if ans == nil {
		ans = handle(x)
		if ans.status < 400 && !ans.fault {
			if instead := s.interrupt(x, Done); instead != nil {
				ans = instead
			}
		}
	}
	s.send(w, x, ans)
}

// pause waits d and reports whether the request is still wanted.
func (s *Server) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-s.done:
	}
	return false
}

// write sends a real answer.
func (s *Server) write(w http.ResponseWriter, ans *answer) {
	s.writeHeader(w, ans.header)
	if ans.status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(len(ans.body)))
	}
	w.WriteHeader(ans.status)
	w.Write(ans.body)
}

func (s *Server) writeHeader(w http.ResponseWriter, header http.Header) {
	h := w.Header()
	h.Set("Date", s.now().UTC().Format(http.TimeFormat))
	for name, values := range header {
		h[http.CanonicalHeaderKey(name)] = values
	}
}

func plain(status int, body string) *answer {
	return &answer{status: status, header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, body: []byte(body)}
}
