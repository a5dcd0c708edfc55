package smartauth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/strictjson"
	"github.com/smartcred/smartcred/provider"
)

// Refresh gets a new token for token's refresh token (RFC 6749 section 6),
// authenticating as for any token request. scopes narrow what is asked for; nil
// asks for what token has. token is not changed; where the server sent a new
// refresh token, token's own is used up and must not be sent again:
// [Client.SessionSource] sees to that and is what most callers want.
//
// The server's answer says only what is new. What else token's answer had, the
// refresh token, the launch context and the id token included, is carried over,
// so that [Token.Answer] of the result is complete.
//
// A new id token is validated and must be of the same issuer and subject as
// before: otherwise the error matches [ErrIDToken], and [ErrGrantUncertain]
// because the refresh token has been used. While the server's keys can't be
// fetched, an https token endpoint's certificate vouches for its signature
// (OpenID Connect Core section 3.1.3.7, item 6): its claims are checked,
// [Token.Identity] stays what it was, and an event of the kind
// [smartcred.EventStaleInUse] says so. A token without a refresh token is
// [provider.ErrInvalidGrant]; scopes that token does not have are
// [smartcred.ErrInvalidConfig]. Other errors are those of [Client.Exchange]'s
// token request.
func (c *Client) Refresh(ctx context.Context, token *Token, scopes []string) (renewed *Token, err error) {
	err = c.run(ctx, func(ctx context.Context) error {
		renewed, err = c.refresh(ctx, token, scopes)
		return err
	})
	if err != nil {
		return nil, err
	}
	return renewed, nil
}

func (c *Client) refresh(ctx context.Context, token *Token, scopes []string) (*Token, error) {
	refresh := token.RefreshToken()
	if refresh == "" {
		return nil, fmt.Errorf("smartauth: refresh token: there is no refresh token; ask for the scope offline_access or online_access: %w", provider.ErrInvalidGrant)
	}
	form := url.Values{"refresh_token": {refresh}}
	if scopes == nil {
		scopes = token.Scopes
	} else {
		if missing := MissingScopes(scopes, token.Scopes); len(missing) > 0 || len(scopes) == 0 {
			return nil, &smartcred.ConfigError{Option: "scopes", Problem: "smartauth: refresh token: scopes must be some of those that the token has"}
		}
		form.Set("scope", strings.Join(scopes, " "))
	}
	before := formerIdentity(token)
	var ids *idTokenVerifier
	if before.subject != "" || slices.Contains(token.Scopes, scopeOpenID) {
		var err error
		if ids, err = c.idTokenVerifier(ctx, before.issuer); err != nil {
			return nil, fmt.Errorf("smartauth: refresh token: %w", err)
		}
		endpoint, _, err := c.tokenEndpoint(ctx)
		if err != nil {
			return nil, err
		}
		ids.withoutKeys = strings.HasPrefix(originOf(endpoint), "https:")
		patient, stop := ids.patience(ctx)
		err = ids.loadKeys(patient)
		stop()
		if err != nil && !ids.withoutKeys {
			return nil, fmt.Errorf("smartauth: refresh token: %w", err)
		}
	}
	fresh, err := c.requestToken(ctx, &tokenRequest{
		grant: grantRefreshToken, scopes: scopes, form: form, sensitive: [][]byte{[]byte(refresh)},
	})
	if err != nil {
		return nil, err
	}
	identity := token.identity
	if ids != nil && fresh.IDToken() != "" {
		patient, stop := ids.patience(ctx)
		now, err := ids.verify(patient, fresh, "")
		stop()
		if err == nil {
			err = before.same(now)
		}
		if err != nil {
			return nil, fmt.Errorf("smartauth: refresh token: %w: %w", ErrGrantUncertain, err)
		}
		if ids.keysErr == nil {
			identity = now
		} else {
			smartcred.Notify(ctx, c.cfg.Observer, smartcred.Event{
				Kind: smartcred.EventStaleInUse, ClientID: c.cfg.ClientID, Server: c.cfg.BaseURL, Err: ids.keysErr,
				Detail: "the keys of id tokens can't be fetched; a refreshed session keeps the identity it had",
			})
		}
	}
	merged, err := mergeAnswers(token, fresh)
	if err != nil {
		return nil, fmt.Errorf("smartauth: refresh token: %w: %w", ErrGrantUncertain, err)
	}
	merged.identity, merged.credential = identity, fresh.credential
	return merged, nil
}

// former is who the user was by the last id token.
type former struct{ issuer, subject, nonce string }

// formerIdentity reads the id token of a token that may have been stored. It was
// validated before it was.
func formerIdentity(t *Token) former {
	claims := []byte(t.Identity().Claims())
	if claims == nil {
		_, rest, _ := strings.Cut(t.IDToken(), ".")
		payload, _, _ := strings.Cut(rest, ".")
		claims, _ = base64.RawURLEncoding.DecodeString(payload)
	}
	o, err := strictjson.Object(claims)
	if err != nil {
		return former{}
	}
	var f former
	f.issuer, _ = o.String("iss")
	f.subject, _ = o.String("sub")
	f.nonce, _ = o.String("nonce")
	return f
}

// same holds a new id token to the former one, OpenID Connect Core section 12.2.
func (f former) same(now *Identity) error {
	if f.subject == "" {
		return nil
	}
	var nonce string
	if raw, ok := now.Claim("nonce"); ok {
		nonce, _ = strictjson.String(raw)
	}
	switch {
	case now.Issuer != f.issuer:
		return fmt.Errorf("%w: iss: %w", ErrIDToken, ErrIssuerMismatch)
	case now.Subject != f.subject:
		return fmt.Errorf("%w: sub: is another user than before", ErrIDToken)
	case nonce != "" && nonce != f.nonce:
		return fmt.Errorf("%w: nonce: is another than before", ErrIDToken)
	}
	return nil
}

// notCarried are the members that a refresh answer alone decides.
var notCarried = []string{"access_token", "token_type", "expires_in", "scope"}

// mergeAnswers returns fresh with what only old's answer has. Its violations are
// those of the server's answer.
func mergeAnswers(old, fresh *Token) (*Token, error) {
	was, err := strictjson.Object(old.values().answer)
	if err != nil {
		return nil, err
	}
	is, err := strictjson.Object(fresh.values().answer)
	if err != nil {
		return nil, err
	}
	members := make(map[string]json.RawMessage, len(was.Names)+len(is.Names))
	names := slices.Clone(is.Names)
	for _, name := range is.Names {
		members[name], _ = is.Raw(name)
	}
	for _, name := range was.Names {
		value, here := members[name]
		empty := !here || strictjson.Kind(value) == "null" ||
			name == "refresh_token" && fresh.RefreshToken() == "" || name == "id_token" && fresh.IDToken() == ""
		if !empty || slices.Contains(notCarried, name) {
			continue
		}
		members[name], _ = was.Raw(name)
		if !here {
			names = append(names, name)
		}
	}
	if scope, here := members["scope"]; !here || strictjson.Kind(scope) == "null" {
		// So that whoever reads the answer again need not know what was asked for.
		members["scope"], _ = json.Marshal(strings.Join(fresh.Scopes, " "))
		if !here {
			names = append(names, "scope")
		}
	}
	merged, err := ParseToken(joinMembers(names, members), fresh.Scopes, fresh.Received)
	if err != nil {
		return nil, errors.New("the answer does not fit the former one")
	}
	merged.violations = fresh.violations
	return merged, nil
}

func joinMembers(names []string, members map[string]json.RawMessage) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		key, _ := json.Marshal(name) // a string always marshals
		b.Write(key)
		b.WriteByte(':')
		b.Write(members[name])
	}
	b.WriteByte('}')
	return b.Bytes()
}
