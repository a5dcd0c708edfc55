package keyhouse_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/smartcred/smartcred"
	_ "github.com/smartcred/smartcred/examples/custombackend/keyhouse"
	"github.com/smartcred/smartcred/examples/custombackend/service"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/secretsource/secretsourcetest"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/signer/signertest"
)

const token = "keyhouse-token-0123456789abcdef"

// A house is the service behind a door that the kits can break.
type house struct {
	*service.Service
	uri string

	mu   sync.Mutex
	door http.HandlerFunc // in place of the service; nil: the service answers
}

func newHouse(t *testing.T) *house {
	t.Setenv("KEYHOUSE_TOKEN", token)
	h := &house{Service: service.New(token)}
	good := h.Handler()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		door := h.door
		h.mu.Unlock()
		if door != nil {
			door(w, r)
			return
		}
		good.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	h.uri = strings.Replace(srv.URL, "http:", "keyhouse:", 1) + "/app?token-source=env%3AKEYHOUSE_TOKEN"
	return h
}

func (h *house) behind(door http.HandlerFunc) func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.door = door
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.door = nil
	}
}

func (h *house) deny(*testing.T) func() {
	h.SetToken("another")
	return func() { h.SetToken(token) }
}

func (h *house) stop(*testing.T) func() {
	return h.behind(func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) })
}

func (h *house) stall(*testing.T) func() {
	released := make(chan struct{})
	open := h.behind(func(http.ResponseWriter, *http.Request) { <-released })
	return func() { open(); close(released) }
}

func (h *house) garble(*testing.T) func() {
	return h.behind(func(w http.ResponseWriter, r *http.Request) { _ = r.Write(w) })
}

func TestSigner(t *testing.T) {
	signertest.Run(t, func(t *testing.T) *signertest.Harness {
		h := newHouse(t)
		newKey := func(t *testing.T) {
			if err := h.NewKey("app"); err != nil {
				t.Fatal(err)
			}
		}
		newKey(t)
		return &signertest.Harness{
			Open: func(t *testing.T) signer.Signer {
				s, err := signer.Open(t.Context(), h.uri, &signer.OpenOptions{OpenOptions: secretsource.OpenOptions{AllowInsecureLoopback: true}})
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Rotate: newKey, Disable: func(_ *testing.T, version string) { h.Disable("app", version) },
			Deny: h.deny, Stop: h.stop, Stall: h.stall, Garble: h.garble, Secrets: []string{token},
		}
	})
}

func TestSource(t *testing.T) {
	secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
		h := newHouse(t)
		return &secretsourcetest.Harness{
			Open: func(t *testing.T) secretsource.Source {
				src, err := secretsource.Open(t.Context(), h.uri, &secretsource.OpenOptions{AllowInsecureLoopback: true})
				if err != nil {
					t.Fatal(err)
				}
				return src
			},
			Set:    func(_ *testing.T, value string) { h.SetSecret("app", value) },
			Remove: func(*testing.T) { h.SetSecret("app", "") },
			Deny:   h.deny, Stop: h.stop, Stall: h.stall, Garble: h.garble, HasPrevious: true, Secrets: []string{token},
		}
	})
}

func TestRefusedURIs(t *testing.T) {
	for _, uri := range []string{
		"keyhouse://host/app", "keyhouse:///app?token-source=env%3AX", "keyhouse://host?token-source=env%3AX",
		"keyhouse://host/app?token-source=env%3AX&token=s3cr3t", "keyhouse://s3cr3t@host/app?token-source=env%3AX", "keyhouse://host/app?token-source=env%3AX#f",
	} {
		src, err := secretsource.Open(t.Context(), uri, nil)
		if !errors.Is(err, smartcred.ErrInvalidConfig) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", uri, err)
		}
		if c, ok := src.(io.Closer); ok {
			_ = c.Close()
		}
	}
}
