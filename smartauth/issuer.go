package smartauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
	"github.com/smartcred/smartcred/internal/strictjson"
)

// issuerProofs keeps what issuers on other origins say about themselves: any
// server can write any issuer into its document.
type issuerProofs struct {
	last   atomic.Pointer[issuerProof]
	flight flight.Flight[*issuerProof]
}

// An issuerProof says whether doc names an issuer that stands by it.
type issuerProof struct {
	doc     *Configuration
	err     error     // nil: it does
	retryAt time.Time // of err
}

const stateIssuer = "; state issuer in the configuration if it is right"

// issuer returns who must have issued what the server at hand signs; empty if
// nobody is named. A stated issuer is the only one. A discovered one is taken
// where it is on the token endpoint's origin, or says itself that it signs with
// the server's keys; and where it is the first one, or the same as ever.
func (c *Client) issuer(ctx context.Context, doc *Configuration) (string, error) {
	if c.cfg.Issuer != "" {
		return c.cfg.Issuer, nil
	}
	if doc.Issuer == "" {
		return "", nil
	}
	tokenEndpoint := c.cfg.TokenEndpoint
	if tokenEndpoint == "" {
		tokenEndpoint = doc.TokenEndpoint
	}
	if !sameOriginURLs(doc.Issuer, tokenEndpoint) {
		if err := c.confirmIssuer(ctx, doc); err != nil {
			return "", err
		}
	}
	if !c.hold(ctx, &c.discovery.forUsers().issuer, "the issuer", doc.Issuer, func(issuer string) string { return issuer }) {
		return "", fmt.Errorf("discovery now names another issuer than before%s: %w", stateIssuer, ErrIssuerMismatch)
	}
	return doc.Issuer, nil
}

// confirmIssuer asks the issuer that doc names for its own configuration, once
// for each document.
func (c *Client) confirmIssuer(ctx context.Context, doc *Configuration) error {
	p := &c.discovery.forUsers().proofs
	for {
		last := p.last.Load()
		if last != nil && last.doc == doc && (last.err == nil || time.Now().Before(last.retryAt)) {
			return last.err
		}
		proof, err := p.flight.Do(ctx, c.cfg.Timeout, func(ctx context.Context) (*issuerProof, error) {
			if landed := p.last.Load(); landed != last && landed.doc == doc {
				return landed, nil // of a flight that ended meanwhile
			}
			return c.proveIssuer(ctx, doc, last)
		})
		if err != nil {
			return err
		}
		if proof.doc == doc {
			return proof.err
		}
	}
}

func (c *Client) proveIssuer(ctx context.Context, doc *Configuration, last *issuerProof) (*issuerProof, error) {
	proof := &issuerProof{doc: doc}
	err := c.run(ctx, func(ctx context.Context) error {
		proof.err = c.askIssuer(ctx, doc)
		return ctx.Err()
	})
	var server *ServerError
	outage := errors.As(proof.err, &server) && server.Temporary()
	switch {
	case errors.Is(err, smartcred.ErrClosed) || err != nil && !outage:
		return nil, err
	case outage && last != nil && last.err == nil && last.doc.Issuer == doc.Issuer && last.doc.JWKSURI == doc.JWKSURI:
		proof.err = nil // it has said so before
	case outage:
		proof.retryAt = time.Now().Add(max(retryDiscovery, server.RetryAfter))
	default:
		proof.retryAt = time.Now().Add(leastDiscoveryTTL)
	}
	c.discovery.forUsers().proofs.last.Store(proof)
	return proof, nil
}

// askIssuer compares doc with what its issuer says at its own address, OpenID
// Connect Discovery section 4.
func (c *Client) askIssuer(ctx context.Context, doc *Configuration) error {
	const op = "confirm issuer"
	if err := c.allow("issuer", doc.Issuer); err != nil {
		return fmt.Errorf("%w: %w", ErrIssuerMismatch, err)
	}
	if strings.Contains(doc.Issuer, "?") {
		return fmt.Errorf("the issuer that discovery names has a query%s: %w", stateIssuer, ErrIssuerMismatch)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(doc.Issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return fmt.Errorf("the issuer that discovery names is no usable URL: %w", ErrIssuerMismatch)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return c.serverError(op, nil, fmt.Errorf("the issuer that discovery names can't be asked%s: %w", stateIssuer, networkError(contextError(ctx, err))))
	}
	defer resp.Body.Close()
	unconfirmed := func(problem string) error {
		return c.serverError(op, resp, fmt.Errorf("%s%s: %w", problem, stateIssuer, ErrIssuerMismatch))
	}
	if resp.StatusCode != http.StatusOK {
		if e := c.serverError(op, resp, errors.New("the issuer that discovery names can't be asked"+stateIssuer)); e.Temporary() {
			return e
		}
		return unconfirmed("the issuer that discovery names does not say that it is one")
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		if errors.Is(err, errBodyTooLarge) {
			return unconfirmed("the issuer that discovery names answers with too much")
		}
		return c.serverError(op, nil, networkError(contextError(ctx, err)))
	}
	own, err := strictjson.Object(body)
	if err != nil || len(own.Duplicates) > 0 {
		return unconfirmed("the issuer that discovery names does not say that it is one")
	}
	name, _ := own.String("issuer")
	keys, _ := own.String("jwks_uri")
	switch {
	case name != doc.Issuer:
		return unconfirmed("the issuer that discovery names calls itself otherwise")
	case keys != doc.JWKSURI:
		return unconfirmed("the issuer that discovery names has other keys than this server")
	}
	return nil
}
