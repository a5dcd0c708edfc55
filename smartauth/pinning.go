package smartauth

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/smartcred/smartcred"
)

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
