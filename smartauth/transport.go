package smartauth

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Transport returns an [http.RoundTripper] that adds source's token to requests
// for the FHIR base URL and [Config.FHIRPrefixes]: same origin, and a path at or
// below theirs. Other requests go through without it, and so does whatever
// follows a redirect.
//
// A 401 makes source drop the token if it is still the one it gives out, at most
// once in 30 s; the request is sent once more if its body can be replayed (see
// [http.Request.GetBody]).
func (c *Client) Transport(source *TokenSource) http.RoundTripper {
	t := &transport{source: source, base: transportOf(c.cfg.HTTPClient)}
	for _, raw := range append([]string{c.cfg.BaseURL}, c.cfg.FHIRPrefixes...) {
		if u, err := url.Parse(raw); err == nil {
			t.prefixes = append(t.prefixes, prefix{origin: origin(u), path: strings.TrimRight(u.EscapedPath(), "/")})
		}
	}
	return t
}

type transport struct {
	source   *TokenSource
	base     http.RoundTripper
	prefixes []prefix
}

type prefix struct{ origin, path string }

func (p prefix) covers(u *url.URL) bool {
	if origin(u) != p.origin || u.User != nil {
		return false
	}
	escaped := u.EscapedPath()
	if escaped == p.path {
		return true
	}
	rest, below := strings.CutPrefix(escaped, p.path+"/")
	return below && staysBelow(rest)
}

// staysBelow refuses paths that a server might read as leading out of the
// prefix: dot segments, plain or escaped up to twice.
func staysBelow(rest string) bool {
	for range 3 {
		for segment := range strings.FieldsFuncSeq(rest, func(r rune) bool { return r == '/' || r == '\\' }) {
			segment, _, _ = strings.Cut(segment, ";") // some servers read ..;x as ..
			if segment == "." || segment == ".." {
				return false
			}
		}
		unescaped, err := url.PathUnescape(rest)
		if err != nil {
			return false
		}
		rest = unescaped
	}
	return true
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !t.covers(req) {
		return t.base.RoundTrip(req)
	}
	token, err := t.source.Token(req.Context())
	if err != nil {
		closeBody(req)
		return nil, fmt.Errorf("smartauth: authorize FHIR request: %w", err)
	}
	resp, err := t.send(req, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	if !t.source.Drop(token) {
		return resp, nil
	}
	again := replay(req)
	if again == nil {
		return resp, nil
	}
	next, err := t.source.Token(req.Context())
	if err != nil || next == token {
		closeBody(again)
		return resp, nil
	}
	resp.Body.Close() // not read to its end: that may never come
	return t.send(again, next)
}

// covers reports whether req gets the token. A request that follows a redirect
// has the answer that redirected in Response.
func (t *transport) covers(req *http.Request) bool {
	if req.Response != nil || req.Header.Get("Authorization") != "" {
		return false
	}
	for _, p := range t.prefixes {
		if p.covers(req.URL) {
			return true
		}
	}
	return false
}

// withToken returns a copy of req with the token: a RoundTripper must not change
// the request it got.
func withToken(req *http.Request, token *Token) *http.Request {
	out := req.Clone(req.Context())
	if out.Header == nil {
		out.Header = make(http.Header)
	}
	token.SetAuthHeader(out)
	return out
}

// replay returns req with its body from the start, nil if that can't be had.
func replay(req *http.Request) *http.Request {
	if req.Body == nil || req.Body == http.NoBody {
		return req
	}
	if req.GetBody == nil {
		return nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil
	}
	out := req.Clone(req.Context())
	out.Body = body
	return out
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
