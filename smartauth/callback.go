package smartauth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/url"
	"time"

	"github.com/smartcred/smartcred/internal/redact"
	"github.com/smartcred/smartcred/provider"
)

// A CallbackError is an error that the authorization server sent the browser
// back with, RFC 6749 section 4.1.2.1. Its text has been searched for the
// launch's secrets, reduced to the characters RFC 6749 allows, and cut to 256
// bytes. It matches the provider package's sentinel of its code, where there is
// one: [provider.ErrInvalidScope] and others.
type CallbackError struct {
	// Code is the error parameter: "access_denied" where the user said no.
	Code string
	// Description and URI are error_description and error_uri; empty if absent.
	Description, URI string
}

// Error implements error.
func (e *CallbackError) Error() string {
	msg := "authorization server sent the browser back with " + e.Code
	if e.Description != "" {
		msg += ": " + e.Description
	}
	if e.URI != "" {
		msg += " (" + e.URI + ")"
	}
	return msg
}

// Is reports whether target is the OAuth error of this code.
func (e *CallbackError) Is(target error) bool {
	return (&provider.TokenError{Code: e.Code}).Is(target)
}

// callbackParams are what a callback is read for. None may appear twice.
var callbackParams = []string{"state", "code", "iss", "error", "error_description", "error_uri"}

// Exchange completes launch with the parameters of its callback: the query, or
// the form where the server posts it. The state must be the launch's, or the
// error matches [ErrState] and the launch stays pending, so that nobody who
// sends a browser to the callback can end it. After that the launch is used up,
// whatever comes of it. Then, in this order:
//
//   - A launch older than [Config.LaunchTimeout] is [ErrLaunchExpired].
//   - iss (RFC 9207) is compared with the issuer where it is sent, and required
//     where the server says that it sends it: [ErrIssuerMismatch].
//   - An error response is a [CallbackError].
//   - The code is exchanged, once, and with nobody but the origin of the token
//     endpoint that the launch began with ([ErrEndpointNotAllowed]):
//     [provider.TokenError], [ServerError], [ErrGrantUncertain], or the
//     Provider's own error.
//   - Where the scope openid was asked for, the id token is validated:
//     [ErrIDToken]. [Token.Identity] has its claims.
//
// Exchange does not know whose browser it was: the caller takes launch out of
// that browser's own session.
func (c *Client) Exchange(ctx context.Context, launch *Launch, callback url.Values) (token *Token, err error) {
	err = c.run(ctx, func(ctx context.Context) error {
		token, err = c.exchange(ctx, launch.values(), callback)
		return err
	})
	if err != nil {
		return nil, err
	}
	return token, nil
}

func (c *Client) exchange(ctx context.Context, s *launchState, callback url.Values) (*Token, error) {
	const op = "smartauth: exchange code: %w"
	if err := s.accept(callback, c.cfg); err != nil {
		return nil, fmt.Errorf(op, err)
	}
	if age := time.Since(s.started); age > c.cfg.LaunchTimeout || age < -c.cfg.LaunchTimeout {
		return nil, fmt.Errorf(op, ErrLaunchExpired)
	}
	issuer, err := c.checkIss(ctx, s, callback)
	if err != nil {
		return nil, fmt.Errorf(op, err)
	}
	code := callback.Get("code")
	if callback.Has("error") {
		return nil, fmt.Errorf(op, s.callbackError(callback, code))
	}
	if code == "" {
		return nil, fmt.Errorf("smartauth: exchange code: the callback has neither code nor error: %w", provider.ErrInvalidRequest)
	}
	var ids *idTokenVerifier
	if s.nonce != "" {
		if ids, err = c.idTokenVerifier(ctx, issuer); err != nil {
			return nil, fmt.Errorf(op, err)
		}
		if err = ids.loadKeys(ctx); err != nil {
			return nil, fmt.Errorf(op, err)
		}
	}
	token, err := c.requestToken(ctx, &tokenRequest{
		grant: grantAuthorizationCode, scopes: s.scopes,
		form:      url.Values{"code": {code}, "redirect_uri": {s.redirectURL}, "code_verifier": {s.verifier}},
		sensitive: [][]byte{[]byte(code), []byte(s.verifier)}, origin: s.tokenOrigin,
	})
	if err != nil || ids == nil {
		return token, err
	}
	if token.identity, err = ids.verify(ctx, token, s.nonce); err != nil {
		return nil, fmt.Errorf(op, err)
	}
	return token, nil
}

// accept checks that callback belongs to the launch, and takes the launch.
func (s *launchState) accept(callback url.Values, cfg *Config) error {
	for _, name := range callbackParams {
		if len(callback[name]) > 1 {
			return fmt.Errorf("the callback has %s more than once: %w", name, ErrState)
		}
	}
	switch got := callback.Get("state"); {
	case s.state == "":
		return fmt.Errorf("no launch is pending: %w", ErrState)
	case s.server != cfg.BaseURL || s.clientID != cfg.ClientID:
		return fmt.Errorf("the launch is another client's: %w", ErrState)
	case got == "":
		return fmt.Errorf("the callback has no state: %w", ErrState)
	case subtle.ConstantTimeCompare([]byte(got), []byte(s.state)) != 1:
		return ErrState
	case !s.used.CompareAndSwap(false, true):
		return fmt.Errorf("the launch has been used: %w", ErrState)
	}
	return nil
}

// checkIss compares iss, RFC 9207 section 2.4. An iss that can't be compared is
// refused: the server would be taken at its word. The issuer it returns is empty
// where it was not needed and the launch does not know it.
func (c *Client) checkIss(ctx context.Context, s *launchState, callback url.Values) (issuer string, err error) {
	iss, issuer := callback.Get("iss"), s.issuer
	if iss == "" {
		if s.issRequired || callback.Has("iss") {
			return "", fmt.Errorf("the callback lacks iss, which this server sends: %w", ErrIssuerMismatch)
		}
		return issuer, nil
	}
	if issuer == "" {
		doc, err := c.Discover(ctx)
		if err != nil {
			return "", err
		}
		if issuer, err = c.issuer(ctx, doc); err != nil {
			return "", err
		}
	}
	switch issuer {
	case iss:
		return issuer, nil
	case "":
		return "", fmt.Errorf("the callback has iss and the SMART configuration no issuer to compare it with; state issuer in the configuration: %w", ErrIssuerMismatch)
	}
	return "", fmt.Errorf("the callback's iss is not the issuer of this server: %w", ErrIssuerMismatch)
}

func (s *launchState) callbackError(callback url.Values, code string) error {
	secrets := redact.New([]byte(s.state), []byte(s.verifier), []byte(s.nonce), []byte(code))
	clean := func(s string) string { return redact.Text(secrets.Clean(s), 256) }
	e := &CallbackError{
		Code:        errorCode(callback.Get("error"), clean),
		Description: clean(callback.Get("error_description")), URI: clean(callback.Get("error_uri")),
	}
	if e.Code == "" {
		return fmt.Errorf("the callback has an empty error: %w", provider.ErrInvalidRequest)
	}
	return e
}
