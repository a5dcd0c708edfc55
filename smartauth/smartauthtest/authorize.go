package smartauthtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// NewLaunch registers the context of an EHR launch and returns the value of the
// launch parameter for it. Empty Patient and FHIRUser are taken from
// Options.Launch.
func (s *Server) NewLaunch(l Launch) string {
	setDefault(&l.Patient, s.opts.Launch.Patient)
	setDefault(&l.FHIRUser, s.opts.Launch.FHIRUser)
	id := random()
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	s.grants.launches[id] = l
	return id
}

// LaunchURL returns the URL that an EHR opens to launch the app at appURL in
// the context l: appURL with iss and launch.
func (s *Server) LaunchURL(appURL string, l Launch) string {
	separator := "?"
	if strings.Contains(appURL, "?") {
		separator = "&"
	}
	return appURL + separator + url.Values{"iss": {s.URL}, "launch": {s.NewLaunch(l)}}.Encode()
}

// Authorize does what a browser and a user who agrees would: it opens an
// authorization URL and returns where the server redirects to, with code and
// state or with an error. It fails when the server does not redirect.
func (s *Server) Authorize(ctx context.Context, authorizationURL string) (*url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, authorizationURL, nil)
	if err != nil {
		return nil, fmt.Errorf("smartauthtest: authorize: %w", err)
	}
	client := *s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("smartauthtest: authorize: %w", err)
	}
	defer resp.Body.Close()
	location, err := resp.Location()
	if errors.Is(err, http.ErrNoLocation) {
		return nil, fmt.Errorf("smartauthtest: authorize: status %d without a redirect", resp.StatusCode)
	}
	return location, err
}

func (s *Server) serveAuthorize(x *exchange) *answer {
	params, ans := s.authorizationParams(x)
	if ans != nil {
		return ans
	}
	c := s.client(params.Get("client_id"))
	if c == nil {
		return noRedirect("client_id is missing or unknown")
	}
	redirectURI := params.Get("redirect_uri")
	if !slices.Contains(c.RedirectURIs, redirectURI) {
		return noRedirect("redirect_uri is missing or not registered")
	}
	answer := url.Values{}
	if state := params.Get("state"); state != "" {
		answer.Set("state", state)
	}
	if s.opts.IssParameter {
		answer.Set("iss", s.Issuer)
	}
	code, err := s.authorize(x, c, params)
	if err != nil {
		answer.Set("error", err.code)
		if err.reason != "" {
			answer.Set("error_description", descriptive(err.reason))
		}
	} else {
		if instead := s.interrupt(x, Accepted); instead != nil {
			if x.shape.Error == "" || x.shape.Status != 0 {
				return instead
			}
			err = refuse(x.shape.Error, x.shape.Description)
			answer.Set("error", err.code)
			if err.reason != "" {
				answer.Set("error_description", err.reason)
			}
		} else {
			answer.Set("code", s.grants.addCode(code, s.now()))
		}
	}
	if s.opts.ModifyCallback != nil {
		s.opts.ModifyCallback(answer)
	}
	return redirect(x.Method, redirectURI, answer, err)
}

func redirect(method, uri string, params url.Values, err *oauthError) *answer {
	separator := "?"
	if strings.Contains(uri, "?") {
		separator = "&"
	}
	ans := &answer{status: http.StatusFound, header: http.Header{
		"Location":        {uri + separator + params.Encode()},
		"Cache-Control":   {"no-store"},
		"Referrer-Policy": {"no-referrer"},
	}}
	if method == http.MethodPost {
		ans.status = http.StatusSeeOther
	}
	if err != nil {
		ans.errno, ans.reason = err.code, err.reason
	}
	return ans
}

// noRedirect tells the user of an error in place of sending the browser to a
// URI that can't be trusted (RFC 6749 section 4.1.2.1).
func noRedirect(reason string) *answer {
	ans := plain(http.StatusBadRequest, reason+"\n")
	ans.errno, ans.reason = "invalid_request", reason
	return ans
}

func (s *Server) authorizationParams(x *exchange) (url.Values, *answer) {
	switch x.Method {
	case http.MethodGet:
		if x.queryErr != nil {
			return nil, noRedirect(x.queryErr.Error())
		}
		return x.query, nil
	case http.MethodPost:
		if x.formErr != nil {
			return nil, noRedirect(x.formErr.Error())
		}
		for name := range x.query {
			if x.form.Has(name) {
				return nil, noRedirect("parameter " + name + " is in the query and in the body")
			}
		}
		return x.form, nil
	default:
		ans := plain(http.StatusMethodNotAllowed, "use GET or POST\n")
		ans.header.Set("Allow", "GET, POST")
		return nil, ans
	}
}

// authorize checks an authorization request whose client and redirect URI are
// good, and approves it.
func (s *Server) authorize(x *exchange, c *client, params url.Values) (*authorizationCode, *oauthError) {
	switch responseType := params.Get("response_type"); {
	case responseType == "":
		return nil, refuse("invalid_request", "response_type is missing")
	case responseType != "code":
		return nil, refuse("unsupported_response_type", "response_type is not code")
	case !c.mayUse(grantCode):
		return nil, refuse("unauthorized_client", "the client may not use "+grantCode)
	case !unpredictable(params.Get("state")):
		return nil, refuse("invalid_request", "state is missing or too short for 122 bits of entropy")
	case params.Get("aud") != s.URL:
		return nil, refuse("invalid_request", "aud is not "+s.URL)
	case params.Get("code_challenge_method") != "S256":
		return nil, refuse("invalid_request", "code_challenge_method is not S256")
	}
	challenge := params.Get("code_challenge")
	if len(challenge) != 43 || strings.Trim(challenge, base64url) != "" {
		return nil, refuse("invalid_request", "code_challenge is not a SHA-256 hash in base64url")
	}
	requested, ok := splitScope(params.Get("scope"))
	if !ok || len(requested) == 0 {
		return nil, refuse("invalid_scope", "scope is missing or malformed")
	}
	launch := s.opts.Launch
	if id := params.Get("launch"); id != "" {
		s.grants.mu.Lock()
		launch, ok = s.grants.launches[id]
		s.grants.mu.Unlock()
		if !ok {
			return nil, refuse("invalid_request", "launch is unknown")
		}
	}
	if slices.Contains(requested, "launch") != params.Has("launch") {
		return nil, refuse("invalid_request", "the launch parameter and the launch scope go together")
	}
	granted := grantable(requested, c.Scopes, false)
	if len(granted) == 0 {
		return nil, refuse("invalid_scope", "none of these scopes can be granted to the client")
	}
	now := s.now()
	return &authorizationCode{
		family: &family{
			clientID: c.ID, scopes: granted, launch: launch, nonce: params.Get("nonce"), authTime: now,
		},
		redirectURI: params.Get("redirect_uri"),
		challenge:   challenge,
		expires:     now.Add(s.opts.CodeLifetime),
	}, nil
}

// unpredictable tells states that can't hold SMART's 122 bits: under 22
// characters, or of so few different ones that they are no random text.
func unpredictable(state string) bool {
	different := make(map[rune]bool)
	for _, r := range state {
		different[r] = true
	}
	return len(state) >= 22 && len(different) >= 8
}
