package secretrotator_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
	"github.com/smartcred/smartcred/secretsource"
)

var change = secretrotator.Change{
	SecretID: "arn:aws:secretsmanager:eu-central-1:111122223333:secret:smart/my-app-AbCdEf",
	Version:  "00000000-0000-4000-8000-000000000001",
	Current:  secretsource.New([]byte(firstValue), "a"),
	Pending:  secretsource.New([]byte("the-second-secret-not-a-real-one-<&>"), "b"),
}

func TestWhatAHookIsSent(t *testing.T) {
	w := newWorld(t, "", firstValue)
	service := newHookService(t, w.ehr)
	tests := []struct {
		name string
		opts *secretrotator.HookOptions
		want map[string]string
	}{
		{"by default", &secretrotator.HookOptions{}, map[string]string{
			"version": change.Version, "secret_id": change.SecretID, "client_secret": string(change.Pending.Reveal()),
		}},
		{"everything", &secretrotator.HookOptions{ClientID: clientID, SendCurrent: true}, map[string]string{
			"version": change.Version, "secret_id": change.SecretID, "client_secret": string(change.Pending.Reveal()),
			"client_id": clientID, "current_client_secret": firstValue,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := w.hook(service, test.opts).Set(t.Context(), change); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, service.last); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever a hook answers but the one right answer is an error, with nothing of
// the answer in it; every one of these echoes what it was sent.
func TestWhatAHookMayAnswer(t *testing.T) {
	const right = `{"version": "00000000-0000-4000-8000-000000000001", "status": "set"}`
	tests := []struct {
		name    string
		status  int
		media   string
		body    string
		is      error // nil: none of the sentinels
		retryIn time.Duration
	}{
		{name: "unauthorized", status: 401, is: smartcred.ErrDenied},
		{name: "forbidden", status: 403, is: smartcred.ErrDenied},
		{name: "not found", status: 404, is: smartcred.ErrNotFound},
		{name: "refused", status: 422},
		{name: "redirect", status: 307},
		{name: "throttled", status: 429, is: smartcred.ErrUnavailable, retryIn: 7 * time.Second},
		{name: "broken", status: 500, is: smartcred.ErrUnavailable, retryIn: 7 * time.Second},
		{name: "accepted only", status: 202, media: "application/json", body: right, is: smartcred.ErrUnavailable, retryIn: 7 * time.Second},
		{name: "a page", status: 200, media: "text/html", body: "<html>", is: smartcred.ErrUnavailable},
		{name: "right, but as text", status: 200, media: "text/plain", body: right, is: smartcred.ErrUnavailable},
		{name: "empty", status: 200, media: "application/json", is: smartcred.ErrUnavailable},
		{name: "empty object", status: 200, media: "application/json", body: "{}", is: smartcred.ErrUnavailable},
		{name: "another version", status: 200, media: "application/json", body: `{"version": "x", "status": "set"}`, is: smartcred.ErrUnavailable},
		{name: "another status", status: 200, media: "application/json", body: strings.Replace(right, "set", "queued", 1), is: smartcred.ErrUnavailable},
		{name: "twice", status: 200, media: "application/json", body: strings.Replace(right, "{", `{"status": "set", `, 1), is: smartcred.ErrUnavailable},
		{name: "two objects", status: 200, media: "application/json", body: right + right, is: smartcred.ErrUnavailable},
		{name: "too long", status: 200, media: "application/json", body: right + strings.Repeat(" ", 1<<20), is: smartcred.ErrUnavailable},
	}
	w := newWorld(t, "", firstValue)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			elsewhere := false
			srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				elsewhere = elsewhere || r.URL.Path == "/elsewhere"
				rw.Header().Set("Content-Type", test.media)
				rw.Header().Set("Retry-After", "7")
				rw.Header().Set("Location", "/elsewhere")
				rw.Header().Set("X-Echo", r.Header.Get("Authorization"))
				rw.WriteHeader(test.status)
				if test.body == "" {
					_ = r.Write(rw)
				}
				_, _ = rw.Write([]byte(test.body))
			}))
			defer srv.Close()
			err := w.hook(&hookService{url: srv.URL}, nil).Set(t.Context(), change)
			if err == nil || elsewhere {
				t.Fatalf("error %v, redirect followed: %t", err, elsewhere)
			}
			for _, sentinel := range []error{smartcred.ErrDenied, smartcred.ErrNotFound, smartcred.ErrUnavailable} {
				if errors.Is(err, sentinel) != (sentinel == test.is) {
					t.Errorf("%v: is %v: %t", err, sentinel, errors.Is(err, sentinel))
				}
			}
			var unavailable *smartcred.UnavailableError
			if errors.As(err, &unavailable) && unavailable.RetryAfter != test.retryIn {
				t.Errorf("retry after %s", unavailable.RetryAfter)
			}
			w.noLeak(err.Error(), string(change.Pending.Reveal()))
		})
	}
	// net/http quotes what is no HTTP.
	t.Run("no HTTP", func(t *testing.T) {
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			conn, buf, err := http.NewResponseController(rw).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = buf.WriteString(r.Header.Get("Authorization") + "\r\n\r\n")
			_ = buf.Flush()
			_ = conn.Close()
		}))
		defer srv.Close()
		err := w.hook(&hookService{url: srv.URL}, nil).Set(t.Context(), change)
		if !errors.Is(err, smartcred.ErrUnavailable) {
			t.Error(err)
		}
		w.noLeak(err.Error())
	})
}

func TestNewHook(t *testing.T) {
	token := secretsource.Static([]byte(hookToken))
	for url, says := range map[string]string{
		"":                                "hook: is missing",
		"hooks.example.org/x":             "no absolute URL",
		"http://hooks.example.org/x":      "http",
		"http://127.0.0.1/x":              "allow_insecure_loopback",
		"https://user:pw@hooks.example/x": "user name",
		"https://hooks.example/x#y":       "fragment",
		"ftp://hooks.example/x":           "not https",
	} {
		_, err := secretrotator.NewHook(url, token, nil)
		if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), says) || url != "" && strings.Contains(err.Error(), url) {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := secretrotator.NewHook("https://hooks.example.org/x", nil, nil); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("no token: %v", err)
	}
	h, err := secretrotator.NewHook("https://hooks.example.org/x", secretsource.Static([]byte("two\nlines")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Set(t.Context(), change); !errors.Is(err, smartcred.ErrInvalidConfig) || strings.Contains(err.Error(), "two") {
		t.Errorf("a token that no header can carry: %v", err)
	}
}
