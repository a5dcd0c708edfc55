package smartauthtest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// An oauthError is a refusal by RFC 6749 section 5.2.
type oauthError struct {
	code   string
	reason string // also the error_description
	basic  bool   // the client used the Authorization header
	status int    // if it can't be told from code
}

func refuse(code, reason string) *oauthError { return &oauthError{code: code, reason: reason} }

func (s *Server) refusal(e *oauthError) *answer {
	ans := &answer{
		status: http.StatusBadRequest,
		header: http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}, "Pragma": {"no-cache"}},
		body:   errorJSON(e.code, e.reason), errno: e.code, reason: e.reason,
	}
	if e.status != 0 {
		ans.status = e.status
	}
	if e.code == "invalid_client" {
		ans.status = s.opts.InvalidClientStatus
		if e.basic {
			ans.status = http.StatusUnauthorized
		}
	}
	if ans.status == http.StatusUnauthorized {
		ans.header.Set("WWW-Authenticate", `Basic realm="smartauthtest"`)
	}
	if ans.status == http.StatusMethodNotAllowed {
		ans.header.Set("Allow", http.MethodPost)
	}
	return ans
}

func errorJSON(code, description string) []byte {
	return rawErrorJSON(code, descriptive(description))
}

func rawErrorJSON(code, description string) []byte {
	body := map[string]string{"error": code}
	if description != "" {
		body["error_description"] = description
	}
	raw, _ := json.Marshal(body) // strings always marshal
	return raw
}

// checkPost is what all endpoints have in common that take a form from an
// authenticated client.
func (x *exchange) checkPost() *oauthError {
	if x.Method != http.MethodPost {
		return &oauthError{code: "invalid_request", reason: "the method is not POST", status: http.StatusMethodNotAllowed}
	}
	if x.formErr != nil {
		return refuse("invalid_request", x.formErr.Error())
	}
	if x.queryErr != nil {
		return refuse("invalid_request", "query: "+x.queryErr.Error())
	}
	for _, name := range []string{
		"client_id", "client_secret", "client_assertion", "client_assertion_type", "grant_type", "code",
		"code_verifier", "redirect_uri", "refresh_token", "access_token", "token", "scope",
	} {
		if x.query.Has(name) {
			return refuse("invalid_request", name+" is in the query: parameters belong into the body")
		}
	}
	return nil
}

// authenticate checks the client's identity. Exactly one method may be used
// (RFC 6749 section 2.3); a public client says its client_id.
func (s *Server) authenticate(x *exchange) (*client, *oauthError) {
	headers := x.Header.Values("Authorization")
	secret := x.form.Has("client_secret")
	assertion := x.form.Has("client_assertion") || x.form.Has("client_assertion_type")
	methods := len(headers)
	for _, used := range []bool{secret, assertion} {
		if used {
			methods++
		}
	}
	switch {
	case methods > 1:
		return nil, refuse("invalid_request", "more than one way of client authentication in one request")
	case len(headers) == 1:
		return s.authenticateBasic(x, headers[0])
	case secret:
		return s.authenticatePost(x)
	case assertion:
		return s.authenticateJWT(x)
	default:
		return s.identifyPublic(x)
	}
}

func (s *Server) identifyPublic(x *exchange) (*client, *oauthError) {
	id := x.form.Get("client_id")
	if id == "" {
		return nil, refuse("invalid_client", "no client authentication, and no client_id of a public client")
	}
	c := s.client(id)
	if c == nil {
		return nil, refuse("invalid_client", "unknown client")
	}
	if !c.mayAuthenticate(AuthNone) {
		return nil, refuse("invalid_client", "the client must authenticate")
	}
	return c, nil
}

func (s *Server) authenticatePost(x *exchange) (*client, *oauthError) {
	c := s.client(x.form.Get("client_id"))
	if c == nil {
		return nil, refuse("invalid_client", "unknown client")
	}
	return c, checkSecret(c, AuthClientSecretPost, x.form.Get("client_secret"))
}

func (s *Server) authenticateBasic(x *exchange, header string) (*client, *oauthError) {
	c, err := s.checkBasic(header)
	if err != nil {
		err.basic = true
		return nil, err
	}
	if x.form.Has("client_id") {
		return nil, refuse("invalid_request", "client_id is in the body of a confidential client's request")
	}
	return c, nil
}

func (s *Server) checkBasic(header string) (*client, *oauthError) {
	userpass, ok := basicCredentials(header)
	if !ok {
		return nil, refuse("invalid_client", "the Authorization header holds no Basic credentials")
	}
	id, secret, ok := strings.Cut(userpass, ":")
	if !ok {
		return nil, refuse("invalid_client", "the Basic credentials have no colon")
	}
	c := s.basicClient(id)
	if c == nil {
		return nil, refuse("invalid_client", "unknown client, or Basic credentials in the wrong encoding")
	}
	if s.encodingOf(c) == RFC6749 {
		decoded, err := formDecode(secret)
		if err != nil {
			return nil, refuse("invalid_client", "the secret in the Basic credentials is not form-encoded")
		}
		secret = decoded
	}
	return c, checkSecret(c, AuthClientSecretBasic, secret)
}

func (s *Server) encodingOf(c *client) Encoding {
	if c.BasicEncoding != "" {
		return c.BasicEncoding
	}
	return s.opts.BasicEncoding
}

// basicClient finds the client that the user part names in that client's own
// encoding.
func (s *Server) basicClient(user string) *client {
	if id, err := formDecode(user); err == nil {
		if c := s.client(id); c != nil && s.encodingOf(c) == RFC6749 {
			return c
		}
	}
	if c := s.client(user); c != nil && s.encodingOf(c) == Raw {
		return c
	}
	return nil
}

func basicCredentials(header string) (string, bool) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", false
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(encoded)
	return string(decoded), err == nil
}

func checkSecret(c *client, method, secret string) *oauthError {
	if !c.mayAuthenticate(method) {
		return refuse("invalid_client", "the client may not use "+method)
	}
	sum := sha256.Sum256([]byte(secret))
	match := 0
	for _, registered := range c.Secrets {
		other := sha256.Sum256([]byte(registered))
		match |= subtle.ConstantTimeCompare(sum[:], other[:])
	}
	if match == 0 {
		return refuse("invalid_client", "wrong client secret")
	}
	return nil
}

// claimedIdentity is who the request says it comes from, for the log.
func (s *Server) claimedIdentity(x *exchange) (id, method, assertion string) {
	assertion = x.form.Get("client_assertion")
	header := x.Header.Get("Authorization")
	if scheme, token, _ := strings.Cut(header, " "); strings.EqualFold(scheme, "Bearer") {
		return s.grants.clientOf(token), "bearer", assertion
	}
	if userpass, ok := basicCredentials(header); ok {
		user, _, _ := strings.Cut(userpass, ":")
		if c := s.basicClient(user); c != nil {
			return c.ID, AuthClientSecretBasic, assertion
		}
		if decoded, err := url.QueryUnescape(user); err == nil {
			user = decoded
		}
		return user, AuthClientSecretBasic, assertion
	}
	if assertion != "" {
		_, claims := decodeAssertion(assertion)
		id, _ = claims["iss"].(string)
		return id, AuthPrivateKeyJWT, assertion
	}
	id = x.form.Get("client_id")
	switch {
	case x.form.Has("client_secret"):
		method = AuthClientSecretPost
	case id != "":
		method = AuthNone
	case x.endpoint == EndpointAuthorize:
		id = x.query.Get("client_id")
	}
	return id, method, ""
}
