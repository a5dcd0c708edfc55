package signer

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
)

func get(h http.Handler, method string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/.well-known/jwks.json", nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func kids(t testing.TB, w *httptest.ResponseRecorder) []string {
	t.Helper()
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, k := range set.Keys {
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if _, ok := k[private]; ok {
				t.Errorf("the set has the private member %s", private)
			}
		}
		out = append(out, k["kid"].(string))
	}
	return out
}

func TestHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next, current, previous := backendKey(t, "p384_x0", Unscheduled), backendKey(t, "p384", time.Time{}), backendKey(t, "p384_y0", time.Time{})
		s := newSetup(t, KeySetOptions{}, next, current, previous)
		s.b.delay = time.Second
		h := s.Handler(t.Context())
		w := get(h, "GET")
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
			t.Errorf("before the first list: %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
		}
		time.Sleep(time.Second)
		synctest.Wait()

		w = get(h, "GET")
		if diff := cmp.Diff([]string{next.ID, current.ID, previous.ID}, kids(t, w)); diff != "" {
			t.Errorf("kids (-want +got):\n%s", diff)
		}
		want := map[string]string{"Content-Type": "application/jwk-set+json", "Cache-Control": "public, max-age=900"}
		for name, value := range want {
			if got := w.Header().Get(name); got != value {
				t.Errorf("%s: %q, want %q", name, got, value)
			}
		}
		etag := w.Header().Get("ETag")
		if w := get(h, "GET", "If-None-Match", `"x", `+etag); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
			t.Errorf("If-None-Match: %d, %d bytes", w.Code, w.Body.Len())
		}
		if w := get(h, "HEAD"); w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("ETag") != etag {
			t.Errorf("HEAD: %d, %d bytes", w.Code, w.Body.Len())
		}
		if w := get(h, "POST"); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("POST: %d", w.Code)
		}
		s.lists(1)

		// Nobody signs; a revoked key leaves the set all the same.
		s.b.set(nil, current)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		w = get(h, "GET", "If-None-Match", etag)
		if diff := cmp.Diff([]string{current.ID}, kids(t, w)); diff != "" {
			t.Errorf("kids (-want +got):\n%s", diff)
		}

		s.b.set(fmt.Errorf("gone: %w", smartcred.ErrNotFound))
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if w := get(h, "GET"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("without keys: %d %s", w.Code, w.Body)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if w := get(h, "GET"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("after Close: %d", w.Code)
		}
	})
}

// The set changes with the schedule although the backend is down.
func TestHandlerFollowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := backendKey(t, "p384_x0", time.Now())
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384_y0", time.Now().Add(time.Hour)), second, backendKey(t, "p384", time.Time{}))
		h := s.Handler(t.Context())
		synctest.Wait()
		s.b.set(&smartcred.UnavailableError{})
		if n := len(kids(t, get(h, "GET"))); n != 3 {
			t.Errorf("%d keys", n)
		}
		time.Sleep(24*time.Hour - time.Minute)
		if n := len(kids(t, get(h, "GET"))); n != 3 {
			t.Errorf("%d keys before the day is over", n)
		}
		time.Sleep(2 * time.Minute)
		if w := get(h, "GET"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("a list of yesterday is served: %d", w.Code)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
