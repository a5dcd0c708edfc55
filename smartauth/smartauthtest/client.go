package smartauthtest

import (
	"encoding/json"
	"fmt"
	"slices"
)

// The names of the client authentication methods, as in RFC 7591's
// token_endpoint_auth_method.
const (
	AuthNone              = "none"
	AuthClientSecretBasic = "client_secret_basic"
	AuthClientSecretPost  = "client_secret_post"
	AuthPrivateKeyJWT     = "private_key_jwt"
)

// A Client is an app as it is registered at the server.
type Client struct {
	// ID is the client_id.
	ID string
	// Secrets are the client secrets that the server takes, all alike: two
	// while one replaces the other.
	Secrets []string
	// JWKS is the client's JWK Set by value: JSON as []byte, string or
	// json.RawMessage, or a value that json.Marshal turns into one, such as a
	// go-jose JSONWebKeySet. A set that is malformed is taken as it is: every
	// assertion is refused then.
	JWKS any
	// JWKSURL is where the server fetches the JWK Set, unless JWKS is given. It
	// is kept as long as its Cache-Control says and never longer. A jku header
	// must equal it.
	JWKSURL string
	// AuthMethods are the methods the client may use; if nil, what it has the
	// credentials for: both ways to send a secret, private_key_jwt, none.
	AuthMethods []string
	// BasicEncoding is how the client encodes Basic; Options.BasicEncoding if empty.
	BasicEncoding Encoding
	// RedirectURIs are compared byte by byte.
	RedirectURIs []string
	// GrantTypes are the grants the client may use; all that fit if nil.
	GrantTypes []string
	// Scopes are what the client may be granted; if nil, every SMART scope it
	// asks for.
	Scopes []string
}

// A client is a registered Client; it is replaced whole, never changed.
type client struct {
	Client
	keys *keySource // nil without keys
	// everConfidential keeps a client that lost its last secret or key from
	// turning into a public one.
	everConfidential bool
}

func newClient(c Client) *client {
	c.Secrets = slices.Clone(c.Secrets)
	c.AuthMethods = slices.Clone(c.AuthMethods)
	c.RedirectURIs = slices.Clone(c.RedirectURIs)
	c.GrantTypes = slices.Clone(c.GrantTypes)
	c.Scopes = slices.Clone(c.Scopes)
	registered := &client{Client: c}
	registered.keys = keysOf(c)
	registered.everConfidential = registered.confidential()
	return registered
}

func keysOf(c Client) *keySource {
	switch {
	case c.JWKS != nil:
		return fixedKeys(rawJSON(c.JWKS))
	case c.JWKSURL != "":
		return fetchedKeys(c.JWKSURL)
	}
	return nil
}

func rawJSON(v any) []byte {
	switch v := v.(type) {
	case []byte:
		return slices.Clone(v)
	case json.RawMessage:
		return slices.Clone(v)
	case string:
		return []byte(v)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("smartauthtest: JWKS of type %T is no JSON: %v", v, err))
	}
	return raw
}

func (c *client) confidential() bool {
	return c.everConfidential || len(c.Secrets) > 0 || c.keys != nil
}

func (c *client) mayAuthenticate(method string) bool {
	if c.AuthMethods != nil {
		return slices.Contains(c.AuthMethods, method)
	}
	switch method {
	case AuthClientSecretBasic, AuthClientSecretPost:
		return len(c.Secrets) > 0
	case AuthPrivateKeyJWT:
		return c.keys != nil
	default:
		return !c.confidential()
	}
}

func (c *client) mayUse(grantType string) bool {
	return c.GrantTypes == nil || slices.Contains(c.GrantTypes, grantType)
}

// AddClient registers c, in the place of a client of that ID. It panics when
// c.ID is empty or c.JWKS can't be written as JSON.
func (s *Server) AddClient(c Client) {
	if c.ID == "" {
		panic("smartauthtest: AddClient: Client.ID is empty")
	}
	s.setClient(newClient(c))
}

// RemoveClient takes the client out of the registry. Its tokens live on.
func (s *Server) RemoveClient(id string) {
	s.clientsMu.Lock()
	defer s.clientsMu.Unlock()
	delete(s.clients, id)
}

// SetSecrets replaces the client's secrets: a request that is being answered
// meets either the old or the new ones. It panics when there is no such client.
func (s *Server) SetSecrets(id string, secrets ...string) {
	s.changeClient(id, func(c *client) { c.Secrets = slices.Clone(secrets) })
}

// SetJWKS replaces the client's JWK Set by value, in any form that
// [Client.JWKS] takes. With nil the set is fetched from JWKSURL again, whatever
// was cached. It panics when there is no such client.
func (s *Server) SetJWKS(id string, jwks any) {
	s.changeClient(id, func(c *client) {
		c.JWKS = jwks
		c.keys = keysOf(c.Client)
	})
}

func (s *Server) changeClient(id string, change func(*client)) {
	s.clientsMu.Lock()
	defer s.clientsMu.Unlock()
	old := s.clients[id]
	if old == nil {
		panic(fmt.Sprintf("smartauthtest: no client %q", id))
	}
	changed := *old
	change(&changed)
	changed.everConfidential = changed.confidential()
	s.clients[id] = &changed
}

func (s *Server) setClient(c *client) {
	s.clientsMu.Lock()
	defer s.clientsMu.Unlock()
	s.clients[c.ID] = c
}

func (s *Server) client(id string) *client {
	s.clientsMu.RLock()
	defer s.clientsMu.RUnlock()
	return s.clients[id]
}
