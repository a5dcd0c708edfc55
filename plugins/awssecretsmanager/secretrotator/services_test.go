package secretrotator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// A hookService is the service behind a hook: it has the EHR take the new secret
// beside the one before, once for each version.
type hookService struct {
	url  string
	t    *testing.T
	ehr  *smartauthtest.Server
	mu   sync.Mutex
	now  string
	done map[string]string // secrets by version
	last map[string]string // the last request's members
	n    int
}

func newHookService(t *testing.T, ehr *smartauthtest.Server) *hookService {
	h := &hookService{t: t, ehr: ehr, now: firstValue, done: map[string]string{}}
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	h.url = srv.URL + "/rotate"
	return h
}

func (h *hookService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	if r.Header.Get("Authorization") != "Bearer "+hookToken {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var in map[string]string
	d := json.NewDecoder(r.Body)
	if err := d.Decode(&in); err != nil || r.Method != http.MethodPost || r.URL.Path != "/rotate" || r.Header.Get("Content-Type") != "application/json" {
		h.t.Errorf("not the hook's request: %s %s, %v", r.Method, r.URL, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	h.last = in
	if before, done := h.done[in["version"]]; done && before != in["client_secret"] {
		h.t.Errorf("version %s came with another secret", in["version"])
	} else if !done {
		h.ehr.SetSecrets(clientID, in["client_secret"], h.now)
		h.done[in["version"]], h.now = in["client_secret"], in["client_secret"]
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"version": %q, "status": "set"}`, in["version"])
}

func (h *hookService) requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}

// A registrar is a strict client configuration endpoint of RFC 7592.
type registrar struct {
	url string
	t   *testing.T
	ehr *smartauthtest.Server

	// How servers differ.
	overlap      bool // the old secret goes on
	hideSecret   bool // not shown when the registration is read
	newOnRead    bool // a registration access token serves once, for reads too
	newOnUpdate  bool // it serves for one update
	keepSecret   bool // an update issues none
	secretEndsAt int64
	secretEnded  bool // the one from before the next update has
	onUpdate     func()

	mu       sync.Mutex
	secret   string
	token    string
	n        int
	metadata map[string]any
	updates  int
}

const firstToken = "registration-token-not-a-real-one-0"

func newRegistrar(t *testing.T, ehr *smartauthtest.Server) *registrar {
	g := &registrar{
		t: t, ehr: ehr, secret: firstValue, token: firstToken,
		metadata: map[string]any{
			"client_id": clientID, "client_name": "An <app> & more", "grant_types": []any{"client_credentials"},
			"token_endpoint_auth_method": "client_secret_basic", "scope": scope, "vendor_limit": json.Number("12345678901234567890"),
		},
	}
	srv := httptest.NewUnstartedServer(g)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	g.url = srv.URL + "/register/" + clientID
	return g
}

// value is what Secrets Manager keeps of the registration.
func (g *registrar) value() string {
	return fmt.Sprintf(`{"note": "kept", "client_secret": %q, "registration_client_uri": %q, "registration_access_token": %q, "number": 12345678901234567890}`,
		firstValue, g.url, firstToken)
}

func (g *registrar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "Bearer "+g.token:
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodGet:
		if g.newOnRead {
			g.renewToken()
		}
		g.answer(w, !g.hideSecret)
	case r.Method == http.MethodPut:
		g.update(w, r)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (g *registrar) renewToken() {
	g.n++
	g.token = fmt.Sprintf("registration-token-not-a-real-one-%d", g.n)
}

func (g *registrar) update(w http.ResponseWriter, r *http.Request) {
	var in map[string]any
	d := json.NewDecoder(r.Body)
	d.UseNumber()
	if err := d.Decode(&in); err != nil || r.Header.Get("Content-Type") != "application/json" {
		g.t.Errorf("not an update: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	// RFC 7592 section 2.2: what is left out is deleted, these are never sent.
	for _, name := range []string{"registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"} {
		if _, ok := in[name]; ok {
			g.t.Errorf("the update has %s", name)
		}
	}
	if secret, ok := in["client_secret"]; ok && secret != g.secret {
		g.t.Error("the update has a client_secret of its own choice")
	}
	delete(in, "client_secret")
	want, _ := json.Marshal(g.metadata)
	got, _ := json.Marshal(in)
	if !bytes.Equal(want, got) {
		g.t.Errorf("the update changes the registration: %s, want %s", got, want)
	}
	g.updates++
	if g.onUpdate != nil {
		g.onUpdate()
		time.Sleep(50 * time.Millisecond) // a client that was to give up does
	}
	if g.newOnUpdate {
		g.renewToken()
	}
	if !g.keepSecret {
		g.secretEnded = false
		old := g.secret
		g.secret = fmt.Sprintf("issued-%d-not-a-real-one-0123456789abcdef", g.updates)
		secrets := []string{g.secret}
		if g.overlap {
			secrets = append(secrets, old)
		}
		g.ehr.SetSecrets(clientID, secrets...)
	}
	g.answer(w, true)
}

func (g *registrar) answer(w http.ResponseWriter, withSecret bool) {
	members := maps.Clone(g.metadata)
	members["registration_client_uri"] = g.url
	members["registration_access_token"] = g.token
	members["client_id_issued_at"] = 1700000000
	if withSecret {
		members["client_secret"] = g.secret
		members["client_secret_expires_at"] = g.secretEndsAt
		if g.secretEnded {
			members["client_secret_expires_at"] = 1
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(members)
}

// tokens are all that ever were.
func (g *registrar) tokens() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []string
	for i := range g.n + 1 {
		all = append(all, fmt.Sprintf("registration-token-not-a-real-one-%d", i))
	}
	slices.Reverse(all)
	return all
}
