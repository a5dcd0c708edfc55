package smartcred_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
)

func TestLogToWritesTheFieldsThatAreSet(t *testing.T) {
	var out bytes.Buffer
	observer := smartcred.LogTo(slog.New(slog.NewTextHandler(&out, nil)))
	smartcred.Notify(t.Context(), observer, smartcred.Event{
		Kind: smartcred.EventKeyRevoked, ClientID: "app", Server: "https://ehr.example.com/r4", Method: "private_key_jwt",
		Version: "7", KeyID: "kid-1", JTI: "j1", Backend: "vault-transit://transit/smart", BackendCorrelationID: "b1",
		ServerCorrelationID: "s1", Skew: time.Minute, Detail: "for people", Err: smartcred.ErrNotFound,
	})
	for _, want := range []string{
		`level=WARN`, `msg="smartcred: key_revoked"`, `kind=key_revoked`, `client_id=app`, `server=https://ehr.example.com/r4`,
		`method=private_key_jwt`, `version=7`, `kid=kid-1`, `jti=j1`, `backend=vault-transit://transit/smart`,
		`backend_correlation_id=b1`, `server_correlation_id=s1`, `skew=1m0s`, `detail="for people"`, `error="not found"`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in %s", want, out.String())
		}
	}
	out.Reset()
	smartcred.Notify(t.Context(), observer, smartcred.Event{Kind: smartcred.EventKeyPublished})
	if line := out.String(); !strings.Contains(line, "level=INFO") || strings.Contains(line, "client_id") {
		t.Errorf("line = %s", line)
	}
}

func TestNilObserverIsTheDefaultLogger(t *testing.T) {
	var out bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	defer slog.SetDefault(before)
	smartcred.Notify(t.Context(), nil, smartcred.Event{Kind: smartcred.EventAllRefused})
	if !strings.Contains(out.String(), "all_refused") {
		t.Errorf("default logger got %q", out.String())
	}
	out.Reset()
	smartcred.Notify(t.Context(), smartcred.Discard, smartcred.Event{Kind: smartcred.EventAllRefused})
	if out.Len() != 0 {
		t.Errorf("discarded, and logged: %q", out.String())
	}
}

func TestTeeTellsEach(t *testing.T) {
	var got []string
	tell := func(name string) smartcred.Observer {
		return smartcred.ObserverFunc(func(_ context.Context, e smartcred.Event) { got = append(got, name+string(e.Kind)) })
	}
	smartcred.Notify(t.Context(), smartcred.Tee(tell("a "), tell("b ")), smartcred.Event{Kind: smartcred.EventClockSkew})
	if strings.Join(got, ",") != "a clock_skew,b clock_skew" {
		t.Errorf("got %q", got)
	}
}

func TestErrorsMatch(t *testing.T) {
	cause := errors.New("sealed")
	unavailable := &smartcred.UnavailableError{RetryAfter: 5 * time.Second, Err: cause}
	if !errors.Is(unavailable, smartcred.ErrUnavailable) || !errors.Is(unavailable, cause) || errors.Is(unavailable, smartcred.ErrDenied) {
		t.Errorf("%v matches the wrong errors", unavailable)
	}
	if got := unavailable.Error(); got != "unavailable (retry after 5s): sealed" {
		t.Errorf("text = %s", got)
	}
	config := &smartcred.ConfigError{Option: "client_id", Problem: "is missing", Err: cause}
	if !errors.Is(config, smartcred.ErrInvalidConfig) || !errors.Is(config, cause) {
		t.Errorf("%v matches the wrong errors", config)
	}
	if got := config.Error(); got != "client_id: is missing: sealed" {
		t.Errorf("text = %s", got)
	}
}
