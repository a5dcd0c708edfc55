package vaultkv

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

// canned answers paths as a test says; what it does not name is not there.
type canned struct {
	mu      sync.Mutex
	answers map[string]answer
}

type answer struct {
	status int
	body   string
}

func (c *canned) set(answers map[string]answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = answers
}

func (c *canned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.answers[r.URL.Path]
	if !ok {
		a = answer{http.StatusNotFound, `{"errors":[]}`}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write([]byte(a.body))
}

func (c *canned) source(t *testing.T) *Source {
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	client, err := api.NewClient(&api.Config{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(client, "app", "f", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

const (
	mountPath = "/v1/sys/internal/ui/mounts/secret/app"
	mountV1   = `{"data":{"path":"secret/","type":"kv","options":null}}`
	mountV2   = `{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`
)

func versionBody(value, created string) string {
	return `{"data":{"data":{"f":"` + value + `"},"metadata":{"version":1,"created_time":"` + created + `","deletion_time":"","destroyed":false}}}`
}

// An engine that is upgraded to version 2 answers 404 at the old path: that is no revocation.
func TestUpgradedEngine(t *testing.T) {
	c := &canned{answers: map[string]answer{mountPath: {200, mountV1}, "/v1/secret/app": {200, `{"data":{"f":"v"}}`}}}
	s := c.source(t)
	lookup := func() error {
		got, err := s.Lookup(t.Context(), secretsource.Current)
		if err == nil && string(got.Reveal()) != "v" {
			t.Errorf("%q", got.Reveal())
		}
		return err
	}
	if err := lookup(); err != nil {
		t.Fatal(err)
	}
	moved := answer{404, `{"request_id":"1","data":null,"warnings":["Invalid path for a versioned K/V secrets engine."]}`}
	c.set(map[string]answer{mountPath: {200, mountV2}, "/v1/secret/app": moved, "/v1/secret/data/app": {400,
		`{"errors":["Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and will resume service shortly."]}`}})
	if err := lookup(); !errors.Is(err, smartcred.ErrUnavailable) || errors.Is(err, smartcred.ErrDenied) {
		t.Errorf("while it is upgraded: %v", err)
	}
	c.set(map[string]answer{mountPath: {200, mountV2}, "/v1/secret/app": moved, "/v1/secret/data/app": {200, versionBody("v", "2030-01-02T03:04:05Z")}})
	if err := lookup(); err != nil {
		t.Errorf("upgraded: %v", err)
	}
	c.set(map[string]answer{mountPath: {200, mountV2}})
	if err := lookup(); !errors.Is(err, smartcred.ErrNotFound) {
		t.Errorf("gone: %v", err)
	}
}

// The version number of a secret that was removed, and made anew, tells nothing of its age.
func TestSecretMadeAnew(t *testing.T) {
	c := &canned{}
	s := c.source(t)
	for _, created := range []string{"2030-01-02T03:04:05Z", "2031-01-02T03:04:05Z"} {
		c.set(map[string]answer{mountPath: {200, mountV2}, "/v1/secret/data/app": {200, versionBody("v", created)}})
		got, err := s.Lookup(t.Context(), secretsource.Current)
		if err != nil || got.Created.Format(time.RFC3339) != created {
			t.Errorf("created %s, %v; want %s", got.Created, err, created)
		}
	}
}
