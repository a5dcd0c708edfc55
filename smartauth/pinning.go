package smartauth

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/smartcred/smartcred"
)

// pins are what discovery named first. They never move: who can change a
// discovery document for an hour must not get the credentials of a year. Stated
// endpoints, [Config.AllowedAuthHosts] and [Config.Issuer] take their place.
type pins struct {
	mu                                       sync.Mutex
	tokenOrigin, authorizationOrigin, issuer pin
}

// A pin is the first value, and those others that an event has told of.
type pin struct {
	first    string
	reported []string
}

// maxReported bounds the events and the memory of a pin.
const maxReported = 16

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

// hold reports whether value, which discovery names as what, is the pinned one;
// it pins the first. Another one is an event, once.
func (c *Client) hold(ctx context.Context, p *pin, what, value string) bool {
	mu := &c.discovery.pins.mu
	mu.Lock()
	if p.first == "" {
		p.first = value
	}
	first := p.first
	fresh := value != first && len(p.reported) < maxReported && !slices.Contains(p.reported, value)
	if fresh {
		p.reported = append(p.reported, value)
	}
	mu.Unlock()
	if fresh {
		smartcred.Notify(ctx, c.cfg.Observer, smartcred.Event{
			Kind: smartcred.EventEndpointChanged, ClientID: c.cfg.ClientID, Server: c.cfg.BaseURL,
			Detail: fmt.Sprintf("discovery now names %s %s, before %s", what, value, first),
		})
	}
	return value == first
}

// pinTokenEndpoint reports whether endpoint is on the first token endpoint's
// origin, where the configuration does not decide otherwise.
func (c *Client) pinTokenEndpoint(ctx context.Context, endpoint string) bool {
	if c.cfg.TokenEndpoint != "" || len(c.cfg.AllowedAuthHosts) > 0 {
		return true
	}
	return c.hold(ctx, &c.discovery.pins.tokenOrigin, "a token endpoint on", originOf(endpoint))
}

// checkTokenEndpoint refuses to send what is worth something elsewhere to a token
// endpoint on another origin than before: a shared secret, a bearer token, a
// code, a refresh token. An assertion is good for the endpoint it names only.
func (c *Client) checkTokenEndpoint(ctx context.Context, endpoint string, assertionOnly bool) error {
	if c.pinTokenEndpoint(ctx, endpoint) || assertionOnly {
		return nil
	}
	return fmt.Errorf("smartauth: discovery now names a token endpoint on another origin, which secrets, codes and tokens are not sent to; state allowed_auth_hosts if the move is meant: %w", ErrEndpointNotAllowed)
}

// checkAuthorizationEndpoint refuses to send a browser, with the user's
// password, to another origin than before.
func (c *Client) checkAuthorizationEndpoint(ctx context.Context, endpoint string) error {
	if len(c.cfg.AllowedAuthHosts) > 0 || c.hold(ctx, &c.discovery.pins.authorizationOrigin, "an authorization endpoint on", originOf(endpoint)) {
		return nil
	}
	return fmt.Errorf("smartauth: discovery now names an authorization endpoint on another origin; state allowed_auth_hosts if the move is meant: %w", ErrEndpointNotAllowed)
}

// originOf is origin of a URL that was checked.
func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return origin(u)
}

func sameOriginURLs(a, b string) bool {
	o := originOf(a)
	return o != "" && o == originOf(b)
}
