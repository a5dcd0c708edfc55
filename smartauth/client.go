package smartauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/smartcred/smartcred"
)

// A Client is one OAuth client at one SMART on FHIR server. It is safe for
// concurrent use and cheap: thousands may share a Provider and an
// [http.RoundTripper], and an idle one has no goroutine.
type Client struct {
	cfg       *Config
	http      *http.Client
	discovery discovery
	own       TokenSource            // for cfg.Scopes, the usual case
	idKeys    atomic.Pointer[idKeys] // nil until an id token is expected

	mu         sync.Mutex
	closed     bool
	sources    map[string]*TokenSource // for other scopes and parameters
	operations map[*operation]struct{}
}

// NewClient returns a Client. It makes no request. What is wrong with cfg is
// said all at once, matching [smartcred.ErrInvalidConfig].
func NewClient(cfg Config) (*Client, error) {
	complete, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: complete, http: copyClient(complete.HTTPClient)}
	c.own.init(c, c.fetchFor(complete.Scopes, nil))
	return c, nil
}

// Token returns a valid access token for the client's own scopes, by
// client_credentials. See [TokenSource.Token].
func (c *Client) Token(ctx context.Context) (*Token, error) { return c.own.Token(ctx) }

// TokenOptions say what a token is for, where it is not the client's own
// configuration.
type TokenOptions struct {
	// Scopes replace [Config.Scopes]; nil: those.
	Scopes []string
	// Params are added to [Config.TokenParams]. Reserved names are refused.
	Params url.Values
}

// TokenSource returns the client_credentials token source for opts. Sources are
// cached by sorted scopes and parameters: the same options give the same source.
func (c *Client) TokenSource(opts *TokenOptions) (*TokenSource, error) {
	if opts == nil || (opts.Scopes == nil && len(opts.Params) == 0) {
		return &c.own, nil
	}
	if slices.ContainsFunc(opts.Scopes, func(s string) bool { return !isScopeToken(s) }) {
		return nil, &smartcred.ConfigError{Option: "scopes", Problem: "smartauth: new token source: has an entry that is no scope"}
	}
	for name := range opts.Params {
		if slices.Contains(reservedParams, name) {
			return nil, &smartcred.ConfigError{Option: name, Problem: "smartauth: new token source: the parameter is reserved"}
		}
	}
	scopes := opts.Scopes
	if scopes == nil {
		scopes = c.cfg.Scopes
	}
	key := scopeKey(scopes) + "\n" + opts.Params.Encode()
	if key == scopeKey(c.cfg.Scopes)+"\n" {
		return &c.own, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, smartcred.ErrClosed
	}
	if s, ok := c.sources[key]; ok {
		return s, nil
	}
	s := new(TokenSource)
	s.init(c, c.fetchFor(slices.Clone(scopes), cloneValues(opts.Params)))
	if c.sources == nil {
		c.sources = make(map[string]*TokenSource)
	}
	c.sources[key] = s
	return s, nil
}

// HTTPClient returns an [http.Client] whose requests to the FHIR base carry the
// client's token: see [Client.Transport]. Its time-out is that of
// [Config.HTTPClient]; without one, give requests a context that ends. The caller
// may change it.
func (c *Client) HTTPClient() *http.Client {
	client := &http.Client{Transport: c.Transport(&c.own)}
	if c.cfg.HTTPClient != nil {
		client.Timeout = c.cfg.HTTPClient.Timeout
	}
	return client
}

// With returns another client with c's configuration as change leaves it: for
// another provider, say. The two share no state.
func (c *Client) With(change func(*Config)) (*Client, error) {
	cfg := *c.cfg
	change(&cfg)
	return NewClient(cfg)
}

// Close ends what is in flight, with [smartcred.ErrClosed], and refuses further
// work. Tokens that were handed out stay valid. It does not close the Provider.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	for op := range c.operations {
		op.cancel(smartcred.ErrClosed)
	}
	sources := c.sources
	c.sources = nil
	c.mu.Unlock()

	c.own.close()
	for _, s := range sources {
		s.close()
	}
	return nil
}

// An operation is a call that Close ends.
type operation struct{ cancel context.CancelCauseFunc }

// run calls fn with ctx bounded by the client's time-out and by its life.
func (c *Client) run(ctx context.Context, fn func(context.Context) error) error {
	bounded, stop := context.WithTimeout(ctx, c.cfg.Timeout)
	defer stop()
	bounded, cancel := context.WithCancelCause(bounded)
	defer cancel(nil)

	op := &operation{cancel: cancel}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return smartcred.ErrClosed
	}
	if c.operations == nil {
		c.operations = make(map[*operation]struct{})
	}
	c.operations[op] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.operations, op)
		if len(c.operations) == 0 {
			c.operations = nil // an emptied map keeps its memory
		}
		c.mu.Unlock()
	}()

	err := fn(bounded)
	switch {
	case err == nil || context.Cause(bounded) != smartcred.ErrClosed:
		return err
	case errors.Is(err, ErrGrantUncertain):
		return fmt.Errorf("%w: %w", smartcred.ErrClosed, err)
	default:
		return smartcred.ErrClosed
	}
}
