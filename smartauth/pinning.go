package smartauth

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/smartcred/smartcred"
)

// A pin is what discovery named first. It never moves: who can change a
// discovery document for an hour must not get the credentials of a year. Stated
// endpoints, [Config.AllowedAuthHosts] and [Config.Issuer] take its place.
type pin struct {
	first    string
	reported *[]string // others that an event has told of; mostly nil
}

// maxReported bounds the events and the memory of a pin.
const maxReported = 16

// forUsers is what only a client of the authorization code flow needs: a backend
// service, of which there may be many, is spared the memory.
type forUsers struct {
	authorization, issuer pin
	proofs                issuerProofs
}

func (d *discovery) forUsers() *forUsers {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users == nil {
		d.users = new(forUsers)
	}
	return d.users
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

// hold reports whether value, which discovery names as what, is the same as the
// pinned one by what shows of them; it pins the first. Another one is an event,
// once.
func (c *Client) hold(ctx context.Context, p *pin, what, value string, show func(string) string) bool {
	d := &c.discovery
	d.mu.Lock()
	if p.first == "" {
		p.first = value
	}
	first, now := show(p.first), show(value)
	fresh := now != first && p.report(now)
	d.mu.Unlock()
	if fresh {
		smartcred.Notify(ctx, c.cfg.Observer, smartcred.Event{
			Kind: smartcred.EventEndpointChanged, ClientID: c.cfg.ClientID, Server: c.cfg.BaseURL,
			Detail: fmt.Sprintf("discovery now names %s %s, before %s", what, now, first),
		})
	}
	return now == first
}

// report notes value and reports whether that is news.
func (p *pin) report(value string) bool {
	if p.reported == nil {
		p.reported = new([]string)
	}
	if len(*p.reported) == maxReported || slices.Contains(*p.reported, value) {
		return false
	}
	*p.reported = append(*p.reported, value)
	return true
}

// pinTokenEndpoint reports whether endpoint is on the first token endpoint's
// origin, where the configuration does not decide otherwise.
func (c *Client) pinTokenEndpoint(ctx context.Context, endpoint string) bool {
	if c.cfg.TokenEndpoint != "" || len(c.cfg.AllowedAuthHosts) > 0 {
		return true
	}
	return c.hold(ctx, &c.discovery.token, "a token endpoint on", endpoint, originOf)
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
	if len(c.cfg.AllowedAuthHosts) > 0 || c.hold(ctx, &c.discovery.forUsers().authorization, "an authorization endpoint on", endpoint, originOf) {
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
