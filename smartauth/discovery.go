package smartauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
)

// wellKnown is appended to the FHIR base URL's path, SMART App Launch section
// "Retrieve .well-known/smart-configuration".
const wellKnown = "/.well-known/smart-configuration"

const (
	// retryDiscovery is how long a failed discovery keeps others from asking.
	retryDiscovery = 5 * time.Second
	// discoveryPatience is how long a server that does not answer is waited for
	// where there is an older document.
	discoveryPatience = 2 * time.Second
)

// discovery keeps what a server says about itself.
type discovery struct {
	last   atomic.Pointer[discovered]
	flight flight.Flight[*Configuration]

	mu      sync.Mutex
	pinned  string // origin of the first token endpoint
	retryAt time.Time
	err     error
}

type discovered struct {
	doc   *Configuration
	etag  string
	until time.Time
}

// Discover returns the server's SMART configuration. It is cached for
// [Config.DiscoveryTTL]; while the server can't be asked, the last one serves
// on. Any number of callers make one request. A document that is no JSON object
// is a [ServerError]; one with violations is returned: see
// [Configuration.Violations].
func (c *Client) Discover(ctx context.Context) (*Configuration, error) {
	d := &c.discovery
	last := d.last.Load()
	if last != nil && time.Now().Before(last.until) {
		return last.doc, nil
	}
	d.mu.Lock()
	retryAt, failed := d.retryAt, d.err
	d.mu.Unlock()
	if failed != nil && time.Now().Before(retryAt) {
		if last != nil {
			return last.doc, nil
		}
		return nil, failed
	}
	call := d.flight.Start(ctx, c.cfg.Timeout, func(ctx context.Context) (doc *Configuration, err error) {
		err = c.run(ctx, func(ctx context.Context) error {
			doc, err = c.refreshDiscovery(ctx, last)
			return err
		})
		return doc, err
	})
	if last == nil {
		return call.Wait(ctx)
	}
	patient, stop := context.WithTimeout(ctx, discoveryPatience)
	defer stop()
	doc, err := call.Wait(patient)
	if err != nil && ctx.Err() == nil && !errors.Is(err, smartcred.ErrClosed) {
		return last.doc, nil
	}
	return doc, err
}

func (c *Client) refreshDiscovery(ctx context.Context, last *discovered) (*Configuration, error) {
	d := &c.discovery
	doc, etag, err := c.fetchDiscovery(ctx, last)
	if err == nil {
		d.last.Store(&discovered{doc: doc, etag: etag, until: time.Now().Add(c.cfg.DiscoveryTTL)})
	}
	d.mu.Lock()
	failedBefore := d.err != nil
	d.err = err
	d.retryAt = time.Now().Add(max(retryDiscovery, retryAfterOf(err)))
	d.mu.Unlock()
	if err != nil && last != nil && !failedBefore {
		smartcred.Notify(ctx, c.cfg.Observer, smartcred.Event{
			Kind: smartcred.EventStaleInUse, ClientID: c.cfg.ClientID, Server: c.cfg.BaseURL,
			Detail: "discovery fails; the last SMART configuration serves on", Err: err,
		})
	}
	return doc, err
}

func (c *Client) fetchDiscovery(ctx context.Context, last *discovered) (doc *Configuration, etag string, err error) {
	const op = "discovery"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.cfg.BaseURL+wellKnown, nil)
	if err != nil {
		return nil, "", fmt.Errorf("smartauth: %s: %w", op, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if last != nil && last.etag != "" {
		req.Header.Set("If-None-Match", last.etag)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, "", serverError(op, nil, networkError(contextError(ctx, err)))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && last != nil:
		return last.doc, last.etag, nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, "", serverError(op, resp, errors.New("a redirect to another origin is not followed"))
	case resp.StatusCode != http.StatusOK:
		return nil, "", serverError(op, resp, errors.New("no SMART configuration"))
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, "", serverError(op, resp, networkError(contextError(ctx, err)))
	}
	doc, err = ParseConfiguration(c.cfg.BaseURL, body)
	if err != nil {
		return nil, "", serverError(op, resp, err)
	}
	return doc, resp.Header.Get("ETag"), nil
}

// tokenEndpoint returns the URL to post token requests to, and the signing
// algorithms that the server says it takes.
func (c *Client) tokenEndpoint(ctx context.Context) (endpoint string, algorithms []string, err error) {
	if c.cfg.TokenEndpoint != "" {
		return c.cfg.TokenEndpoint, nil, nil
	}
	doc, err := c.Discover(ctx)
	if err != nil {
		return "", nil, err
	}
	if doc.TokenEndpoint == "" {
		return "", nil, serverError("discovery", nil, errors.New("the SMART configuration has no usable token_endpoint; state token_endpoint in the configuration"))
	}
	if err := c.allow("token_endpoint", doc.TokenEndpoint); err != nil {
		return "", nil, err
	}
	return doc.TokenEndpoint, doc.TokenEndpointAuthSigningAlgorithms, nil
}

// allow refuses discovered endpoints that nothing may be sent to.
func (c *Client) allow(name, endpoint string) error {
	if err := checkURL(endpoint, c.cfg.AllowInsecureLoopback); err != nil {
		return fmt.Errorf("smartauth: discovery: %s %w: %w", name, err, ErrEndpointNotAllowed)
	}
	if len(c.cfg.AllowedAuthHosts) == 0 {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || !slices.ContainsFunc(c.cfg.AllowedAuthHosts, func(host string) bool { return hostMatches(host, u) }) {
		return fmt.Errorf("smartauth: discovery: %s is on a host that allowed_auth_hosts does not have: %w", name, ErrEndpointNotAllowed)
	}
	return nil
}

// hostMatches compares an entry of AllowedAuthHosts, with or without its port.
func hostMatches(allowed string, u *url.URL) bool {
	if !strings.Contains(strings.TrimPrefix(allowed, "["), ":") || strings.HasSuffix(allowed, "]") {
		allowed += ":" + map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.EqualFold(u.Scheme+"://"+allowed, origin(u))
}

// pin compares the origin a credential is about to be sent to with the first one.
// A change is an event; a shared secret is not sent to the new one.
func (c *Client) pin(ctx context.Context, endpoint string, sharedSecret bool) error {
	if c.cfg.TokenEndpoint != "" || len(c.cfg.AllowedAuthHosts) > 0 {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("smartauth: discovery: token endpoint: %w", ErrEndpointNotAllowed)
	}
	now := origin(u)
	d := &c.discovery
	d.mu.Lock()
	before := d.pinned
	if before == "" || !sharedSecret {
		d.pinned = now
	}
	d.mu.Unlock()
	if before == "" || before == now {
		return nil
	}
	smartcred.Notify(ctx, c.cfg.Observer, smartcred.Event{
		Kind: smartcred.EventEndpointChanged, ClientID: c.cfg.ClientID, Server: c.cfg.BaseURL,
		Detail: "discovery now names a token endpoint on " + now + ", before on " + before,
	})
	if !sharedSecret {
		return nil
	}
	return fmt.Errorf("smartauth: token request: discovery now names another origin, which the client secret is not sent to; state allowed_auth_hosts if the move is meant: %w", ErrEndpointNotAllowed)
}
