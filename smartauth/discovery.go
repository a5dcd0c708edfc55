package smartauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
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
	// leastDiscoveryTTL is the least that a server can ask its document to be kept.
	leastDiscoveryTTL = time.Minute
	// discoveryPatience is how long a server that does not answer is waited for
	// where there is an older document.
	discoveryPatience = 2 * time.Second
)

// discovery keeps what a server says about itself.
type discovery struct {
	last   atomic.Pointer[discovered]
	flight flight.Flight[*Configuration]

	mu      sync.Mutex
	token   pin       // token endpoint, by its origin
	users   *forUsers // nil until needed
	retryAt time.Time
	err     error
}

type discovered struct {
	doc   *Configuration
	etag  string
	until time.Time
}

// Discover returns the server's SMART configuration. It is cached for
// [Config.DiscoveryTTL], or for less where the server says so; while the server can't be asked, the last one serves
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
		if landed := d.last.Load(); landed != last {
			return landed.doc, nil // another flight was faster
		}
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
	next, err := c.fetchDiscovery(ctx, last)
	if err == nil && next.doc.TokenEndpoint == "" && c.cfg.TokenEndpoint == "" {
		// Half a document, of a server under maintenance: it never takes the
		// place of a whole one, and does not serve for long.
		next.until = time.Now().Add(retryDiscovery)
		if last != nil && last.doc.TokenEndpoint != "" {
			err = c.serverError("discovery", nil, errNoTokenEndpoint)
		}
	}
	if err == nil {
		d.last.Store(next)
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
	if err != nil {
		return nil, err
	}
	return next.doc, nil
}

var errNoTokenEndpoint = errors.New("the SMART configuration has no usable token_endpoint; state token_endpoint in the configuration")

func (c *Client) fetchDiscovery(ctx context.Context, last *discovered) (*discovered, error) {
	const op = "discovery"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.cfg.BaseURL+wellKnown, nil)
	if err != nil {
		return nil, fmt.Errorf("smartauth: %s: %w", op, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if last != nil && last.etag != "" {
		req.Header.Set("If-None-Match", last.etag)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.serverError(op, nil, networkError(contextError(ctx, err)))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && last != nil:
		return &discovered{doc: last.doc, etag: last.etag, until: c.freshUntil(resp.Header)}, nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, c.serverError(op, resp, errors.New("a redirect to another origin is not followed"))
	case resp.StatusCode != http.StatusOK:
		return nil, c.serverError(op, resp, errors.New("no SMART configuration"))
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, c.serverError(op, resp, networkError(contextError(ctx, err)))
	}
	doc, err := ParseConfiguration(c.cfg.BaseURL, body)
	if err != nil {
		return nil, c.serverError(op, resp, err)
	}
	return &discovered{doc: doc, etag: resp.Header.Get("ETag"), until: c.freshUntil(resp.Header)}, nil
}

// freshUntil is when an answer's document is asked for again: after the time that
// its Cache-Control allows, but not within a minute nor after the configured one.
func (c *Client) freshUntil(header http.Header) time.Time {
	ttl := c.cfg.DiscoveryTTL
	for directive := range strings.SplitSeq(header.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			ttl = min(ttl, leastDiscoveryTTL)
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				ttl = min(ttl, max(time.Duration(seconds)*time.Second, leastDiscoveryTTL))
			}
		}
	}
	return time.Now().Add(ttl)
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
		return "", nil, c.serverError("discovery", nil, errNoTokenEndpoint)
	}
	if err := c.allow("token_endpoint", doc.TokenEndpoint); err != nil {
		return "", nil, err
	}
	c.pinTokenEndpoint(ctx, doc.TokenEndpoint)
	return doc.TokenEndpoint, doc.TokenEndpointAuthSigningAlgorithms, nil
}
