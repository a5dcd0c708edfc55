package smartauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/smartcred/smartcred/internal/strictjson"
)

// NewToken returns a token that did not come from a token endpoint, for
// [Config.PreTokenRequest]. A zero expiry is [DefaultLifetime] from now; one
// more than [MaxLifetime] ahead counts as that. It fails where accessToken is
// empty or has characters that RFC 6749 appendix A.12 does not allow.
func NewToken(accessToken string, expiry time.Time) (*Token, error) {
	if !isVSCHAR(accessToken) {
		return nil, errors.New("smartauth: new token: the access token is empty or has characters outside RFC 6749 appendix A.12")
	}
	now := time.Now().Round(0)
	answer := map[string]any{"access_token": accessToken, "token_type": "Bearer"}
	if !expiry.IsZero() {
		expiry = expiry.Round(0)
		if last := now.Add(MaxLifetime); expiry.After(last) {
			expiry = last
		}
		answer["expires_in"] = max(0, int64(expiry.Sub(now)/time.Second))
	}
	body, _ := json.Marshal(answer) // strings and a number always marshal
	token, err := parseToken(body, nil, now)
	if err != nil {
		return nil, fmt.Errorf("smartauth: new token: %w", err)
	}
	if !expiry.IsZero() {
		token.Expiry = expiry
	}
	return token, nil
}

const tokenVersion = 1

// savedToken is the JSON of [Token.Save]. All members are always there; what
// was sent by the server is in base64, so that it is the same to the byte.
type savedToken struct {
	Version  int            `json:"version"`
	Answer   []byte         `json:"answer"`
	Received time.Time      `json:"received"`
	Expiry   time.Time      `json:"expiry"`
	Scopes   []string       `json:"scopes"`
	Identity *savedIdentity `json:"identity"`
}

type savedIdentity struct {
	Server string `json:"server"`
	Claims []byte `json:"claims"`
}

var savedTokenMembers = []string{"version", "answer", "received", "expiry", "scopes", "identity"}

// Save returns the token as JSON, for [RestoreToken] in another process: the
// server's answer, when it came, when the token ends, its scopes, and the
// identity that was validated. It is nil for a Token that no answer was read for.
//
// This is the secret form: it holds the access and refresh tokens as they are.
// Keep it encrypted, where only this user's session finds it, and where nobody
// else can write: [RestoreToken] believes it.
func (t *Token) Save() []byte {
	if t.AccessToken() == "" {
		return nil
	}
	saved := savedToken{
		Version: tokenVersion, Answer: t.values().answer, Scopes: t.Scopes,
		Received: t.Received.UTC(), Expiry: t.Expiry.UTC(),
	}
	if t.identity != nil {
		saved.Identity = &savedIdentity{Server: t.identity.Server, Claims: t.identity.Claims()}
	}
	out, _ := json.Marshal(saved) // times between an answer and MaxLifetime later always marshal
	return out
}

// RestoreToken reads what [Token.Save] returned. It fails on anything else; the
// error holds nothing of it. A token that has expired meanwhile is restored too:
// [Client.SessionSource] refreshes it.
func RestoreToken(saved []byte) (*Token, error) {
	token, err := restoreToken(saved)
	if err != nil {
		return nil, fmt.Errorf("smartauth: restore token: not a token that this version saved: %w", err)
	}
	return token, nil
}

func restoreToken(saved []byte) (*Token, error) {
	o, err := strictjson.Object(saved)
	if err != nil {
		return nil, err
	}
	if o.BOM || len(o.Duplicates) > 0 || len(o.Names) != len(savedTokenMembers) ||
		slices.ContainsFunc(savedTokenMembers, func(name string) bool { _, ok := o.Raw(name); return !ok }) {
		return nil, errors.New("its members are others")
	}
	var v savedToken
	if json.Unmarshal(o.Text(), &v) != nil || v.Version != tokenVersion {
		return nil, errors.New("its version or a member's type is another")
	}
	if v.Received.IsZero() || v.Expiry.IsZero() || v.Expiry.After(v.Received.Add(MaxLifetime)) {
		return nil, errors.New("its times can't be")
	}
	token, err := parseToken(v.Answer, v.Scopes, v.Received)
	if err != nil {
		return nil, err
	}
	token.Expiry = v.Expiry
	if v.Identity != nil {
		if token.identity, err = restoreIdentity(v.Identity); err != nil {
			return nil, err
		}
	}
	return token, nil
}

func restoreIdentity(v *savedIdentity) (*Identity, error) {
	o, err := strictjson.Object(v.Claims)
	if err != nil {
		return nil, err
	}
	id := &Identity{
		Server: v.Server, Expiry: numericDate(o, "exp"), IssuedAt: numericDate(o, "iat"),
		claims: func() []byte { return v.Claims },
	}
	id.Issuer, _ = o.String("iss")
	id.Subject, _ = o.String("sub")
	if id.Server == "" || id.Issuer == "" || id.Subject == "" {
		return nil, errors.New("its identity is nobody's")
	}
	if id.FHIRUser, err = fhirUserOf(v.Claims, v.Server); err != nil {
		return nil, err
	}
	return id, nil
}
