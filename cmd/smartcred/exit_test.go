package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/rotation"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestExitStatus(t *testing.T) {
	answer := func(status int, code string) error { return &provider.TokenError{Status: status, Code: code} }
	noCredential := func(err error) error { return &provider.CredentialError{Op: "look up client secret", Err: err} }
	unreachable := func(err error) error { return &smartauth.ServerError{Op: "token request", Err: err} }
	wrap := func(err error) error { return fmt.Errorf("smartauth: something: %w", err) }

	for _, test := range []struct {
		name string
		err  error
		want int
	}{
		{"nothing", nil, 0},
		{"something to act on", errFound, 1},
		{"configuration", &smartcred.ConfigError{Option: "client_id"}, 2},
		{"several of it", errors.Join(&smartcred.ConfigError{Option: "a"}, &smartcred.ConfigError{Option: "b"}), 2},
		{"configuration, met at look-up", noCredential(&smartcred.ConfigError{Problem: "mode"}), 2},
		{"a key that no algorithm fits", noCredential(smartcred.ErrUnsupportedAlgorithm), 2},
		{"configuration file not there", &smartcred.ConfigError{Option: "--config", Err: smartcred.ErrNotFound}, 2},

		{"invalid_client 401", wrap(answer(401, "invalid_client")), 3},
		{"invalid_client 400", answer(400, "invalid_client"), 3},
		{"invalid_client 200", answer(200, "invalid_client"), 3},
		{"invalid_scope 403", answer(403, "invalid_scope"), 3},
		{"a code of its own", answer(403, "public_key error"), 3},
		{"refused, and previous not found", errors.Join(answer(401, "invalid_client"), noCredential(smartcred.ErrUnavailable)), 3},
		{"previous not found, and refused", errors.Join(noCredential(smartcred.ErrDenied), wrap(answer(401, "invalid_client"))), 3},
		{"refused, then 503", errors.Join(answer(503, "temporarily_unavailable"), answer(401, "invalid_client")), 3},
		{"back-off of a former run", &provider.RefusedError{Until: time.Now()}, 3},
		{"budget spent", wrap(&provider.RefusedError{BudgetSpent: true}), 3},
		{"refused by also_refusal, with a 500", &provider.RefusedError{Attempts: []rotation.Attempt{{Err: answer(500, "invalid_client")}}}, 3},
		{"back-off, and previous not found", &provider.RefusedError{Lookup: noCredential(smartcred.ErrUnavailable)}, 3},
		{"wrong state", wrap(smartauth.ErrState), 3},
		{"wrong iss", wrap(smartauth.ErrIssuerMismatch), 3},

		{"secret missing", noCredential(smartcred.ErrNotFound), 4},
		{"key denied", noCredential(smartcred.ErrDenied), 4},
		{"backend down", wrap(noCredential(&smartcred.UnavailableError{})), 4},
		{"backend's time-out", noCredential(context.DeadlineExceeded), 4},
		{"backend's answer, unwrapped", wrap(smartcred.ErrNotFound), 4},
		{"a signature that is wrong", noCredential(errors.New("signature does not verify")), 4},

		{"429", answer(429, "slow_down"), 5},
		{"invalid_client 429", answer(429, "invalid_client"), 5},
		{"invalid_client 500", answer(500, "invalid_client"), 5},
		{"server_error 503", answer(503, "server_error"), 5},
		{"no connection", wrap(unreachable(errors.New("dial"))), 5},
		{"server's time-out", unreachable(context.DeadlineExceeded), 5},
		{"time-out of nobody in particular", context.DeadlineExceeded, 5},
		{"endpoint not allowed", wrap(smartauth.ErrEndpointNotAllowed), 5},
		{"grant uncertain", fmt.Errorf("%w: %w", smartauth.ErrGrantUncertain, unreachable(nil)), 5},
		{"grant uncertain after an OAuth error", fmt.Errorf("%w: %w", smartauth.ErrGrantUncertain, answer(502, "invalid_grant")), 5},
		{"something else", errors.New("else"), 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := exitStatus(test.err); got != test.want {
				t.Errorf("exitStatus(%v) = %d, want %d", test.err, got, test.want)
			}
			if test.err != nil && nextStep("smartcred token", test.err) == "" {
				t.Error("no next step")
			}
		})
	}
}

// silence is a backend that does not answer.
type silence struct{}

func (silence) Lookup(ctx context.Context, _ secretsource.Stage) (secretsource.Secret, error) {
	<-ctx.Done()
	return secretsource.Secret{}, ctx.Err()
}

func (silence) Keys(ctx context.Context) ([]signer.Key, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (silence) Sign(ctx context.Context, _ signer.Key, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A time-out is blamed on whoever was slow: here on the backend, although the
// server is asked in the same call.
func TestTimeOutOfTheBackend(t *testing.T) {
	srv := smartauthtest.NewServer(t, nil)
	secret, err := provider.NewClientSecretBasic(silence{}, &provider.SecretOptions{Cache: &secretsource.CacheOptions{Observer: smartcred.Discard}})
	if err != nil {
		t.Fatal(err)
	}
	jwt, err := provider.NewPrivateKeyJWT(silence{}, &provider.PrivateKeyJWTOptions{KeySet: &signer.KeySetOptions{Observer: smartcred.Discard}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []provider.Provider{secret, jwt} {
		t.Run(fmt.Sprintf("%T", p), func(t *testing.T) {
			s := defaults()
			s.baseURL, s.allowInsecureLoopback, s.clientID, s.scopes = srv.URL, true, "app", []string{"system/*.rs"}
			o := &session{settings: s, observer: smartcred.Discard, deadline: time.Now().Add(200 * time.Millisecond), transport: http.DefaultTransport, provider: p}
			defer o.Close()
			_, err := o.requestToken(t.Context(), false)
			if got := exitStatus(err); got != exitBackend {
				t.Errorf("status %d for %v, want %d", got, err, exitBackend)
			}
			if srv.Count(smartauthtest.EndpointConfiguration) == 0 || srv.Count(smartauthtest.EndpointToken) != 0 {
				t.Error("the server was asked otherwise than for its configuration")
			}
		})
	}
}
