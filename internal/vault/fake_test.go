package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

// In FIPS 140 mode crypto/rand seeds itself from how uneven time passes, which in
// a synctest bubble it does not: the first read must be outside of one.
func init() { _, _ = rand.Read(make([]byte, 1)) }

// A fakeVault is as much of Vault as a login meets, as a RoundTripper, so that
// days pass in a moment under synctest. The real one is in integration/vault.
type fakeVault struct {
	t     *testing.T
	start time.Time

	mu        sync.Mutex
	secretIDs map[string]bool // that log in
	ttl       int             // of tokens, in seconds
	renewable bool
	maxLife   time.Duration // of a token, renewals included; 0: without end
	made      map[string]time.Time
	revoked   map[string]bool
	forbidden bool   // every path, whatever the token
	status    int    // in place of any answer
	body      string // in place of that status's own
	stalled   bool
	wrapped   map[string]string // wrapping token to creation path; gone once unwrapped
	log       []string          // "SECONDS WHAT"
}

func newFake(t *testing.T) *fakeVault {
	return &fakeVault{t: t, start: time.Now(), secretIDs: map[string]bool{"right": true}, ttl: 60, renewable: true,
		made: map[string]time.Time{}, revoked: map[string]bool{}, wrapped: map[string]string{}}
}

// take returns the log since the last call, without the reads of secrets.
func (f *fakeVault) take(kinds ...string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, line := range f.log {
		_, what, _ := strings.Cut(line, " ")
		for _, k := range kinds {
			if what == k {
				out = append(out, line)
			}
		}
	}
	f.log = nil
	return out
}

func (f *fakeVault) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeVault) RoundTrip(req *http.Request) (*http.Response, error) {
	var body map[string]any
	if req.Body != nil {
		_ = json.NewDecoder(req.Body).Decode(&body)
	}
	f.mu.Lock()
	stalled := f.stalled
	f.mu.Unlock()
	if stalled {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	status, answer := f.answer(req, body)
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	if f.status != 0 && f.body != "" {
		text = []byte(f.body)
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}, "Retry-After": {"7"}},
		Body: io.NopCloser(bytes.NewReader(text)), Request: req,
	}, nil
}

func (f *fakeVault) note(what string) {
	f.log = append(f.log, time.Since(f.start).Round(time.Second).String()+" "+what)
}

func fault(text string) map[string]any { return map[string]any{"errors": []string{text}} }

func (f *fakeVault) answer(req *http.Request, body map[string]any) (int, map[string]any) {
	if f.status != 0 {
		f.note("status")
		return f.status, fault("out of order")
	}
	token := req.Header.Get("X-Vault-Token")
	path := strings.TrimPrefix(req.URL.Path, "/v1/")
	switch path {
	case "auth/approle/login":
		secretID, _ := body["secret_id"].(string)
		if !f.secretIDs[secretID] {
			f.note("login refused")
			return http.StatusBadRequest, fault("invalid role or secret ID")
		}
		f.note("login")
		token := "token-" + time.Now().Format(time.RFC3339Nano)
		f.made[token] = time.Now()
		return http.StatusOK, f.auth(token)
	case "sys/wrapping/lookup":
		creation, ok := f.wrapped[body["token"].(string)]
		if !ok {
			return http.StatusBadRequest, fault("wrapping token is not valid or does not exist")
		}
		return http.StatusOK, map[string]any{"data": map[string]any{"creation_path": creation}}
	case "sys/wrapping/unwrap":
		if _, ok := f.wrapped[token]; !ok {
			return http.StatusBadRequest, fault("wrapping token is not valid or does not exist")
		}
		delete(f.wrapped, token)
		f.note("unwrap")
		return http.StatusOK, map[string]any{"data": map[string]any{"secret_id": "right"}}
	}
	if _, known := f.made[token]; !known || f.revoked[token] || f.ended(token) {
		f.note("invalid token")
		return http.StatusForbidden, fault("2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
	}
	switch {
	case path == "auth/token/renew-self":
		f.note("renew")
		if !f.renewable {
			return http.StatusBadRequest, fault("lease is not renewable")
		}
		return http.StatusOK, f.auth(token)
	case path == "auth/token/revoke-self":
		f.note("revoke")
		f.revoked[token] = true
		return http.StatusNoContent, nil
	case f.forbidden:
		f.note("forbidden")
		return http.StatusForbidden, fault("1 error occurred:\n\t* permission denied\n\n")
	default:
		f.note("read")
		return http.StatusOK, map[string]any{"data": map[string]any{"value": "x"}}
	}
}

// left is what a token may live yet.
func (f *fakeVault) left(token string) time.Duration {
	left := time.Duration(f.ttl) * time.Second
	if f.maxLife > 0 {
		left = min(left, time.Until(f.made[token].Add(f.maxLife)))
	}
	return left
}

func (f *fakeVault) ended(token string) bool { return f.maxLife > 0 && f.left(token) <= 0 }

func (f *fakeVault) auth(token string) map[string]any {
	return map[string]any{"auth": map[string]any{
		"client_token": token, "accessor": "accessor", "lease_duration": int(f.left(token) / time.Second), "renewable": f.renewable,
	}}
}

// changing is a Source whose value a test changes.
type changing struct {
	mu    sync.Mutex
	value string
}

func (c *changing) set(value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value = value
}

func (c *changing) Lookup(context.Context, secretsource.Stage) (secretsource.Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.value == "" {
		return secretsource.Secret{}, smartcred.ErrNotFound
	}
	return secretsource.New([]byte(c.value), "1"), nil
}

// session returns one that logs in to f by AppRole with what secretID has.
func (f *fakeVault) session(secretID secretsource.Source, change func(*appRoleMethod)) *Session {
	client, err := api.NewClient(&api.Config{
		Address: "https://vault.example.com", HttpClient: &http.Client{Transport: f}, CheckRetry: checkRetry, Timeout: defaultTimeout,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	client.ClearToken()
	m := &appRoleMethod{sources: &sources{}, mount: "approle", roleID: secretsource.Static([]byte("role")), secretID: secretID}
	if change != nil {
		change(m)
	}
	l := &login{key: f.t.Name(), refs: 1, client: func() *api.Client { return client }, method: m, observer: smartcred.Discard, wake: make(chan struct{}, 1)}
	l.ctx, l.stop = context.WithCancel(f.t.Context())
	return &Session{client: l.client, login: l}
}
