package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// correlationHeader carries an assertion's jti. Vault writes it into its audit
// log where sys/config/auditing/request-headers names it.
const correlationHeader = "X-Correlation-Id"

// A Session asks Vault, logged in. It is safe for concurrent use.
type Session struct {
	client func() *api.Client // in a closure: a client holds a token, and would print it
	login  *login             // nil: the client has a token of its own
	calls  flight.Calls
}

// Borrow returns a Session over a client whose login and life are the caller's.
func Borrow(client *api.Client) (*Session, error) {
	if client == nil {
		return nil, &smartcred.ConfigError{Option: "client", Problem: "there is none"}
	}
	return &Session{client: func() *api.Client { return client }}, nil
}

// Open returns a Session that logs in as the configuration says, at its first
// call. Close it.
func Open(ctx context.Context, c *Config, opts *secretsource.OpenOptions) (*Session, error) {
	l, err := acquire(ctx, c, opts)
	if err != nil {
		return nil, err
	}
	return &Session{client: l.client, login: l}, nil
}

// Read asks for a path. What Vault has nothing at is [smartcred.ErrNotFound]; the
// Secret comes with it where Vault sent one (a deleted version of KV's).
func (s *Session) Read(ctx context.Context, path string, params url.Values) (*api.Secret, error) {
	return s.ask(ctx, call{"read", path}, func(ctx context.Context, client *api.Client, header *http.Header) (*api.Secret, error) {
		ctx, cancel := context.WithCancel(ctx) // ends the client's own time-out with the call
		defer cancel()
		resp, err := client.Logical().ReadRawWithDataWithContext(ctx, path, params)
		if resp == nil {
			return nil, err
		}
		defer resp.Body.Close()
		*header = resp.Header
		if err != nil && resp.StatusCode != http.StatusNotFound {
			return nil, err
		}
		body, readErr := io.ReadAll(resp.Body)
		if readErr != nil {
			return nil, readErr
		}
		if !vaults(body) {
			return nil, errGarbage
		}
		secret, parseErr := api.ParseSecret(bytes.NewReader(body))
		if err == nil {
			err = parseErr
		} else if e := new(api.ResponseError); errors.As(err, &e) && e.Errors == nil {
			e.Errors = []string{} // a 404 of Vault's with data has no list of errors
		}
		return secret, err
	})
}

// vaults reports whether a body is an answer of Vault's, which all have one of
// these members: another's may not pass for a secret without its field.
func vaults(body []byte) bool {
	var members struct {
		RequestID json.RawMessage `json:"request_id"`
		Data      json.RawMessage `json:"data"`
		Errors    json.RawMessage `json:"errors"`
	}
	return json.Unmarshal(body, &members) == nil && (members.RequestID != nil || members.Data != nil || members.Errors != nil)
}

// Write sends data to a path.
func (s *Session) Write(ctx context.Context, path string, data map[string]any) (*api.Secret, error) {
	return s.ask(ctx, call{"update", path}, func(ctx context.Context, client *api.Client, _ *http.Header) (*api.Secret, error) {
		return client.Logical().WriteWithContext(ctx, path, data)
	})
}

// Reset ends the wait after failed logins, see [pace].
func (s *Session) Reset() {
	if s.login != nil {
		s.login.reset()
	}
}

// Close ends calls under way, which then return [smartcred.ErrClosed], as all later
// ones do, and logs out where this package logged in. A borrowed client stays as
// it is. A second call does nothing.
func (s *Session) Close() error {
	s.calls.Close(func() {
		if s.login != nil {
			release(s.login)
		}
	})
	return nil
}

type request func(ctx context.Context, client *api.Client, header *http.Header) (*api.Secret, error)

func (s *Session) ask(ctx context.Context, c call, do request) (*api.Secret, error) {
	client := s.client()
	ctx, end, err := s.calls.Begin(ctx, client.ClientTimeout())
	if err != nil {
		return nil, err
	}
	defer end()
	var header http.Header
	var secret *api.Secret
	if s.login == nil {
		secret, err = do(ctx, client, &header)
	} else {
		secret, err = s.login.ask(ctx, &header, do)
	}
	var login *LoginError
	switch {
	case err == nil && secret == nil: // where Vault has nothing it answers 404
		return nil, &smartcred.UnavailableError{Err: errGarbage}
	case err == nil:
		return secret, nil
	case errors.As(err, &login):
		return nil, login
	default:
		return secret, c.fail(ctx, err, header)
	}
}

// withToken returns a client that sends token, and keeps the header of the answer.
func withToken(ctx context.Context, client *api.Client, token string, header *http.Header) *api.Client {
	jti := signer.AssertionID(ctx)
	return client.WithRequestCallbacks(func(r *api.Request) {
		r.ClientToken = token
		if jti != "" {
			r.Headers.Set(correlationHeader, jti)
		}
	}).WithResponseCallbacks(func(r *api.Response) {
		if r != nil && r.Response != nil {
			*header = r.Header
		}
	})
}
