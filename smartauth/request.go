package smartauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/redact"
	"github.com/smartcred/smartcred/provider"
)

const (
	grantClientCredentials = "client_credentials"
	grantAuthorizationCode = "authorization_code"
	grantRefreshToken      = "refresh_token"
)

// notableSkew is the difference of clocks that is reported.
const notableSkew = 30 * time.Second

// A tokenRequest is one request to the token endpoint, sent once for each
// credential that is tried.
type tokenRequest struct {
	grant     string
	scopes    []string   // asked for
	form      url.Values // without the client's proof
	sensitive [][]byte   // code, verifier, refresh token
	origin    string     // the only one that it may go to; empty: the pinned one
}

// singleUse reports whether the request carries a grant that can be used up.
func (r *tokenRequest) singleUse() bool { return r.grant != grantClientCredentials }

// fetchFor returns the function that gets a token by client_credentials.
func (c *Client) fetchFor(scopes []string, params url.Values) func(context.Context) (*Token, error) {
	return func(ctx context.Context) (*Token, error) {
		if hook := c.cfg.PreTokenRequest; hook != nil {
			token, err := hook(ctx, TokenRequest{ClientID: c.cfg.ClientID, Server: c.cfg.BaseURL, Scopes: scopes, Params: cloneValues(params)})
			if err != nil {
				return nil, fmt.Errorf("smartauth: pre-token-request hook: %w", err)
			}
			if token != nil && token.AccessToken() == "" {
				return nil, errors.New("smartauth: pre-token-request hook: the token has no access token: make one with NewToken")
			}
			if token != nil {
				return token, nil
			}
		}
		if len(scopes) == 0 {
			return nil, &smartcred.ConfigError{Option: "scopes", Problem: "smartauth: token request: there are none, and SMART requires one: " + ScopeSystemRead + ", for example"}
		}
		form := cloneValues(params)
		form.Set("scope", strings.Join(scopes, " "))
		return c.requestToken(ctx, &tokenRequest{grant: grantClientCredentials, scopes: scopes, form: form})
	}
}

// requestToken makes a token request with whatever credential the provider has.
func (c *Client) requestToken(ctx context.Context, r *tokenRequest) (token *Token, err error) {
	err = c.run(ctx, func(ctx context.Context) error {
		endpoint, algorithms, err := c.tokenEndpoint(ctx)
		if err != nil {
			return err
		}
		if r.origin != "" && originOf(endpoint) != r.origin {
			return fmt.Errorf("smartauth: token request: the token endpoint is on another origin than when the launch began: %w", ErrEndpointNotAllowed)
		}
		req := provider.Request{
			ClientID: c.cfg.ClientID, Server: c.cfg.BaseURL, URL: endpoint, Issuer: c.cfg.Issuer,
			Algorithms: algorithms, GrantType: r.grant,
		}
		return c.cfg.Provider.Authenticate(ctx, req, func(ctx context.Context, cred provider.Credential) error {
			token = nil
			if err := c.checkTokenEndpoint(ctx, endpoint, !r.singleUse() && cred.Method == provider.MethodPrivateKeyJWT); err != nil {
				return err
			}
			if token, err = c.sendTokenRequest(ctx, endpoint, r, cred); err == nil {
				token.credential = credential{cred.Identity, cred.Method, cred.Version, cred.KeyID}
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if token == nil {
		return nil, errors.New("smartauth: token request: the provider neither sent a request nor said why")
	}
	if missing := token.MissingScopes(r.scopes); len(missing) > 0 {
		smartcred.Notify(ctx, c.cfg.Observer, smartcred.Event{
			Kind: smartcred.EventScopeReduced, ClientID: c.cfg.ClientID, Server: c.cfg.BaseURL,
			Detail: fmt.Sprintf("granted less than asked: %d of %d scopes are missing", len(missing), len(r.scopes)),
		})
	}
	return token, nil
}

// longValues are parameters that could be credentials of the server's own
// making: a client token, a tenant's key. Short ones would be found in innocent
// text.
func longValues(params url.Values) [][]byte {
	var out [][]byte
	for name, values := range params {
		for _, value := range values {
			if len(value) >= 16 && name != "scope" && name != "redirect_uri" {
				out = append(out, []byte(value))
			}
		}
	}
	return out
}

// sendTokenRequest posts r once, with cred, and reads the answer.
func (c *Client) sendTokenRequest(ctx context.Context, endpoint string, r *tokenRequest, cred provider.Credential) (*Token, error) {
	form := cloneValues(c.cfg.TokenParams)
	for name, values := range r.form {
		form[name] = values
	}
	form.Set("grant_type", r.grant)
	secrets := redact.New(slices.Concat(cred.Sensitive(), r.sensitive, longValues(c.cfg.TokenParams), longValues(r.form))...)

	answer, err := c.post(ctx, "token request", endpoint, form, cred)
	if err != nil {
		if r.singleUse() && answer.sent {
			return nil, fmt.Errorf("%w: %w", ErrGrantUncertain, err)
		}
		return nil, err
	}
	if answer.skew > notableSkew || answer.skew < -notableSkew {
		smartcred.Notify(ctx, c.cfg.Observer, smartcred.Event{
			Kind: smartcred.EventClockSkew, ClientID: c.cfg.ClientID, Server: c.cfg.BaseURL, JTI: cred.JTI, Skew: answer.skew,
		})
	}
	token, err := answer.token(r.scopes, secrets)
	if err != nil && r.singleUse() && !answer.refuses(err) {
		return nil, fmt.Errorf("%w: %w", ErrGrantUncertain, err)
	}
	return token, err
}
