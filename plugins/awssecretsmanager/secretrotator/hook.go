package secretrotator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/strictjson"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
)

// A Hook is a [Setter] that has a service of yours change the secret at the
// server, by one request:
//
//	POST <url>
//	Authorization: Bearer <token>
//	Content-Type: application/json
//
//	{"version": "…", "secret_id": "arn:…", "client_id": "…", "client_secret": "…", "current_client_secret": "…"}
//
// version is the same for every attempt at one change: the service does the work
// once, and answers again as it did. secret_id is the secret's ARN. client_id is
// there if [HookOptions].ClientID is, current_client_secret if SendCurrent is.
// Unknown members are to be ignored.
//
// The answer that the server takes the new secret from now on, and the old one
// as well for a while, is
//
//	HTTP/1.1 200 OK
//	Content-Type: application/json
//
//	{"version": "…", "status": "set"}
//
// with the version that was sent, so that no proxy's page passes for it. Every
// other answer is an error: 401 and 403 are [smartcred.ErrDenied]; 408, 425,
// 429, 5xx, time-outs, other 2xx and answers of another form are
// [smartcred.ErrUnavailable], with Retry-After if it is there. Redirects are not
// followed. Bodies are neither logged nor in errors.
type Hook struct {
	url      string
	token    secretsource.Source
	opts     HookOptions
	exchange exchanger
}

var _ Setter = (*Hook)(nil)

// HookOptions configure [NewHook]. The zero value and nil are the defaults.
type HookOptions struct {
	// ClientID tells the service which client it is about; empty: it knows.
	ClientID string
	// SendCurrent sends the current secret too, for servers that want it shown
	// before they change it.
	SendCurrent bool
	// HTTPClient is copied; nil: one that speaks TLS 1.2 or later. Its Jar and
	// CheckRedirect are not used.
	HTTPClient *http.Client
	// Timeout bounds the request; 0: 30 s.
	Timeout time.Duration
	// AllowInsecureLoopback accepts http, on loopback addresses only.
	AllowInsecureLoopback bool
}

// NewHook returns a Hook. The token is looked up for each request; the caller
// closes its source.
func NewHook(url string, token secretsource.Source, opts *HookOptions) (*Hook, error) {
	h := &Hook{url: url, token: token}
	if opts != nil {
		h.opts = *opts
	}
	err := checkURL("hook", url, h.opts.AllowInsecureLoopback)
	if token == nil {
		err = errors.Join(err, &smartcred.ConfigError{Option: "hook_token", Problem: "is missing: where the token that the hook knows us by is kept"})
	}
	if err != nil {
		return nil, fmt.Errorf("secretrotator: new hook: %w", err)
	}
	h.exchange = newExchanger(h.opts.HTTPClient, h.opts.Timeout)
	return h, nil
}

// hookRequest is the body of the request.
type hookRequest struct {
	Version  string `json:"version"`
	SecretID string `json:"secret_id"`
	ClientID string `json:"client_id,omitempty"`
	Secret   string `json:"client_secret"`
	Current  string `json:"current_client_secret,omitempty"`
}

// Set implements [Setter].
func (h *Hook) Set(ctx context.Context, change Change) error {
	token, err := h.token.Lookup(ctx, secretsource.Current)
	if err != nil {
		return &provider.CredentialError{Op: "look up the hook's token", Err: err}
	}
	bearer := string(token.Reveal())
	if !isBearer(bearer) {
		return &smartcred.ConfigError{Option: "hook_token", Problem: "has characters that a Bearer token can't have, RFC 6750 section 2.1"}
	}
	req := hookRequest{
		Version: change.Version, SecretID: change.SecretID, ClientID: h.opts.ClientID, Secret: string(change.Pending.Reveal()),
	}
	if h.opts.SendCurrent {
		req.Current = string(change.Current.Reveal())
	}
	body, err := json.Marshal(req)
	if err != nil {
		return errors.New("the hook's request is no JSON")
	}
	answer, err := h.exchange.do(ctx, http.MethodPost, h.url, bearer, body)
	if err != nil {
		return fmt.Errorf("hook: %w", err)
	}
	version, _ := answer.String("version")
	status, state := answer.String("status")
	if version != change.Version || state != strictjson.Present || status != "set" {
		return fmt.Errorf("hook: %w", unanswered(errors.New(`HTTP 200, but not {"version", "status": "set"} with the version that was sent`)))
	}
	return nil
}
