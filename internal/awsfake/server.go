package awsfake

import (
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// What holds unless a test says otherwise.
const (
	Region          = "eu-central-1"
	Account         = "111122223333"
	AccessKeyID     = "AKIAIOSFODNN7EXAMPLE"
	SecretAccessKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

const (
	maxBody     = 1 << 20
	maxRequests = 1000 // that are remembered
)

// Options configure a [Server]. The zero value and nil are the defaults.
type Options struct {
	// TLS makes it speak https, with the certificate that [Server.Client] trusts.
	TLS bool
	// Now is the server's clock; nil: [time.Now].
	Now func() time.Time
}

// A Credential is an access key that the server takes.
type Credential struct {
	AccessKeyID, SecretAccessKey string
	SessionToken                 string    // of temporary credentials
	Expires                      time.Time // of temporary credentials; zero: never
	Account                      string    // whose it is; empty: [Account]
}

// A Request is what came to the server, and how it was answered.
type Request struct {
	ID        string // as answered in x-amzn-RequestId
	Operation string // "Sign"
	Region    string // that it was signed for
	Resource  string // KeyId or SecretId as asked
	UserAgent string
	Code      string // of the error that it was answered with; empty: none
}

// A Server is a fake AWS with all regions and accounts. It is safe for
// concurrent use.
type Server struct {
	// URL is the endpoint of all services.
	URL string

	now  func() time.Time
	opts Options

	mu          sync.Mutex // guards what follows
	http        *httptest.Server
	credentials map[string]Credential
	keys        map[string]*key   // by id
	aliases     map[string]string // key ids, by alias ARN
	secrets     map[string]*secret
	denied      map[int]denial
	faults      []*fault
	next        int // number of the next denial or fault
	calls       map[string]int
	requests    []Request
	zeros       int
}

type denial struct{ operation, resource string }

// New starts a server on loopback. Close it.
func New(opts *Options) *Server {
	s := &Server{
		now: time.Now, credentials: map[string]Credential{}, keys: map[string]*key{}, aliases: map[string]string{},
		secrets: map[string]*secret{}, denied: map[int]denial{}, calls: map[string]int{},
	}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Now != nil {
		s.now = s.opts.Now
	}
	s.AddCredential(Credential{AccessKeyID: AccessKeyID, SecretAccessKey: SecretAccessKey})
	s.start("127.0.0.1:0")
	return s
}

func (s *Server) start(address string) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	_ = srv.Listener.Close()
	listener, err := net.Listen("tcp", address)
	for deadline := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond) // its own connections may hold the port for a moment
		listener, err = net.Listen("tcp", address)
	}
	if err != nil {
		panic("awsfake: listen: " + err.Error())
	}
	srv.Listener = listener
	srv.Config.ErrorLog = discard
	if s.opts.TLS {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.http = srv
	if s.URL == "" { // it stays over a stop
		s.URL = srv.URL
	}
}

// Client returns an HTTP client that trusts the server's certificate.
func (s *Server) Client() *http.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.http.Client()
}

// CertificatePEM returns the server's certificate, which is its own authority.
func (s *Server) CertificatePEM() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

// Close ends the server and its connections.
func (s *Server) Close() {
	s.mu.Lock()
	srv := s.http
	s.mu.Unlock()
	srv.CloseClientConnections()
	srv.Close()
}

// Stop makes connections to the server fail, until start is called. What it
// keeps stays.
func (s *Server) Stop() (start func()) {
	s.mu.Lock()
	address := s.http.Listener.Addr().String()
	s.mu.Unlock()
	s.Close()
	return sync.OnceFunc(func() { s.start(address) })
}

// AddCredential makes the server take an access key, in place of one with the
// same id.
func (s *Server) AddCredential(c Credential) {
	if c.Account == "" {
		c.Account = Account
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credentials[c.AccessKeyID] = c
}

// Deny refuses an operation on a resource, until allow is called: an ARN, or
// part of one. Either may be empty, for all.
func (s *Server) Deny(operation, resource string) (allow func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.next
	s.next++
	s.denied[n] = denial{operation, resource}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.denied, n)
	}
}

// Calls returns how often an operation was asked for, refusals included.
func (s *Server) Calls(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[operation]
}

// ResetCalls forgets the calls and requests so far.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.calls)
	s.requests = nil
}

// Requests returns the last 1000 requests, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// A call is one request on its way through the server.
type call struct {
	*Server
	service   string
	operation string
	region    string
	account   string // of the caller
	principal string
	body      []byte
	record    Request
}

type operation func(c *call) (any, error)

// operations by the target that X-Amz-Target names.
var operations = map[string]map[string]operation{
	"TrentService": {
		"Sign": (*call).sign, "GetPublicKey": (*call).getPublicKey, "DescribeKey": (*call).describeKey,
		"CreateKey": (*call).createKey, "CreateAlias": (*call).createAlias, "UpdateAlias": (*call).updateAlias,
		"DeleteAlias": (*call).deleteAlias, "DisableKey": (*call).disableKey, "EnableKey": (*call).enableKey,
		"ScheduleKeyDeletion": (*call).scheduleKeyDeletion, "CancelKeyDeletion": (*call).cancelKeyDeletion,
	},
	"secretsmanager": {
		"GetSecretValue": (*call).getSecretValue, "PutSecretValue": (*call).putSecretValue, "DescribeSecret": (*call).describeSecret,
		"CreateSecret": (*call).createSecret, "RotateSecret": (*call).rotateSecret, "DeleteSecret": (*call).deleteSecret,
		"RestoreSecret": (*call).restoreSecret, "UpdateSecretVersionStage": (*call).updateSecretVersionStage,
	},
}

var services = map[string]string{"TrentService": "kms", "secretsmanager": "secretsmanager"}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return // the client went away
	}
	target, name, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	c := &call{Server: s, service: services[target], operation: name, body: body}
	c.record = Request{ID: newID(), Operation: name, UserAgent: r.UserAgent()}
	w.Header().Set("x-amzn-RequestId", c.record.ID)
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))

	s.mu.Lock()
	s.calls[name]++
	s.mu.Unlock()
	f := s.fault(name)
	if f != nil && !f.pass(w, r, body) {
		c.keep("")
		return
	}
	answer, err := c.answer(r, operations[target][name])
	if f != nil && f.Change != nil && err == nil {
		answer = change(answer, f.Change)
	}
	if err != nil {
		e := asError(err)
		c.keep(e.Code)
		writeError(w, e)
		return
	}
	c.keep("")
	raw, err := json.Marshal(answer)
	if err != nil {
		panic("awsfake: encode answer: " + err.Error())
	}
	_, _ = w.Write(raw)
}

func (c *call) answer(r *http.Request, do operation) (any, error) {
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/" || r.URL.RawQuery != "":
		return nil, &Error{http.StatusNotFound, "UnknownOperationException", ""}
	case do == nil:
		return nil, &Error{http.StatusBadRequest, "UnknownOperationException", ""}
	case r.Header.Get("Content-Type") != contentType:
		return nil, &Error{http.StatusBadRequest, "SerializationException", "the content type is not " + contentType}
	}
	if err := c.authenticate(r); err != nil {
		return nil, err
	}
	return do(c)
}

// keep remembers the request.
func (c *call) keep(code string) {
	c.record.Code, c.record.Region = code, c.region
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) >= maxRequests {
		c.requests = c.requests[1:]
	}
	c.requests = append(c.requests, c.record)
}

// decode reads the request's input, strictly: an object with members that the
// operation has, spelled so, and those that it needs.
func (c *call) decode(input any, required ...string) error {
	malformed := func(why string) error { return &Error{http.StatusBadRequest, "SerializationException", why} }
	var members map[string]json.RawMessage
	if err := json.Unmarshal(c.body, &members); err != nil || members == nil {
		return malformed("the body is no JSON object")
	}
	known := reflect.TypeOf(input).Elem()
	for name := range members {
		if _, ok := known.FieldByName(name); !ok {
			return malformed(c.operation + " has no member " + name)
		}
	}
	if err := json.Unmarshal(c.body, input); err != nil {
		return malformed(err.Error())
	}
	for _, name := range required {
		if reflect.ValueOf(input).Elem().FieldByName(name).IsZero() {
			return refuse("ValidationException", "1 validation error detected: Value at '"+strings.ToLower(name[:1])+name[1:]+
				"' failed to satisfy constraint: Member must not be null")
		}
	}
	return nil
}

// allowed reports whether the caller may do this to a resource; s.mu is held.
func (c *call) allowed(resource string) error {
	for _, d := range c.denied {
		if (d.operation == "" || d.operation == c.operation) && (d.resource == "" || strings.Contains(resource, d.resource)) {
			return c.accessDenied(resource)
		}
	}
	return nil
}

func (c *call) accessDenied(resource string) error {
	action := c.service + ":" + c.operation
	return &Error{http.StatusBadRequest, "AccessDeniedException", fmt.Sprintf(
		"User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action",
		c.principal, action, resource, action)}
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// change lets a test alter an answer's members.
func change(answer any, by func(map[string]any)) any {
	raw, err := json.Marshal(answer)
	if err != nil {
		panic("awsfake: encode answer: " + err.Error())
	}
	members := map[string]any{}
	if err := json.Unmarshal(raw, &members); err != nil {
		panic("awsfake: decode answer: " + err.Error())
	}
	by(members)
	return members
}
