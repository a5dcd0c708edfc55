package vaulttest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// through returns a root client that goes through what stands at address, with
// a connection for each request.
func through(t *testing.T, s *Server, address string) *api.Client {
	t.Helper()
	c := s.Root(t)
	if err := c.SetAddress(address); err != nil {
		t.Fatal(err)
	}
	return c
}

func lookup(ctx context.Context, c *api.Client) error {
	_, err := c.Auth().Token().LookupSelfWithContext(ctx)
	return err
}

func TestProxy(t *testing.T) {
	s := Shared(t)
	p := NewProxy(t, s)
	kept := through(t, s, p.Address) // its connection stays open from one fault to the next
	works := func(t *testing.T) {
		t.Helper()
		err := lookup(t.Context(), kept)
		if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) {
			err = lookup(t.Context(), kept) // the fault may have broken the connection that was kept
		}
		if err != nil {
			t.Errorf("a kept client: %v", err)
		}
		if err := lookup(t.Context(), through(t, s, p.Address)); err != nil {
			t.Errorf("a new connection: %v", err)
		}
	}
	works(t)

	p.Stall()
	for name, c := range map[string]*api.Client{"kept": kept, "new": through(t, s, p.Address)} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := lookup(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stalled, %s connection: %v", name, err)
		}
		cancel()
	}
	p.Pass(t)
	works(t)

	for _, after := range []int{0, 1200, 2000} {
		p.Cut(after)
		if err := lookup(t.Context(), through(t, s, p.Address)); err == nil {
			t.Errorf("cut after %d bytes: no error", after)
		}
	}
	p.Pass(t)
	works(t)

	p.Refuse()
	if err := lookup(t.Context(), through(t, s, p.Address)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	}
	p.Pass(t)
	works(t)
}

func TestFront(t *testing.T) {
	s := Shared(t)
	f := NewFront(t, s)
	c := through(t, s, f.Address)
	const path = "auth/token/lookup-self"

	if err := lookup(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if f.Count(http.MethodGet, path) != 1 || f.Count("", path) != 1 || f.Count(http.MethodPost, path) != 0 || f.Count("", "sys/") != 0 {
		t.Errorf("requests %v", f.Requests())
	}
	f.Reset()
	if n := len(f.Requests()); n != 0 {
		t.Errorf("%d requests after Reset", n)
	}

	f.AnswerStatus(http.StatusTooManyRequests, "Retry-After", "7")
	if err := lookup(t.Context(), c); status(err) != http.StatusTooManyRequests {
		t.Errorf("answered 429: %v", err)
	}

	f.Garble(http.StatusForbidden)
	if err := lookup(t.Context(), c); status(err) != http.StatusForbidden || !strings.Contains(err.Error(), s.RootToken) {
		t.Error("the garbage does not echo the token")
	}

	f.CutAnswers()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.Address+"/v1/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", s.RootToken)
	resp, err := c.CloneConfig().HttpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || len(body) == 0 || int64(len(body)) >= resp.ContentLength || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %s, %d of %d bytes, %v", resp.Status, len(body), resp.ContentLength, err)
	}

	f.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := lookup(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stalled: %v", err)
	}
	waiting := make(chan error, 1)
	f.Reset()
	go func() { waiting <- lookup(t.Context(), c) }()
	bounded(t, func(ctx context.Context) error {
		return until(ctx, always{}, func() error {
			if f.Count("", path) == 0 {
				return errors.New("the request has not arrived")
			}
			return nil
		})
	})
	f.Pass()
	if err := <-waiting; err == nil {
		t.Error("a stalled request was answered")
	}
	if err := lookup(t.Context(), c); err != nil {
		t.Errorf("passing again: %v", err)
	}
}
