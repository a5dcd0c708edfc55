package smartauthtest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

func (f *Fault) answer(x *exchange) *answer {
	ans := &answer{status: http.StatusOK, header: make(http.Header), body: []byte(f.Body), fault: true}
	contentType := "text/plain; charset=utf-8"
	switch {
	case strings.HasPrefix(f.Body, "{"):
		contentType = "application/json"
	case strings.HasPrefix(f.Body, "<"):
		contentType = "text/html; charset=utf-8"
	}
	code, description := f.Error, f.Description
	var echoed string
	if f.Echo != 0 {
		ans.status = http.StatusBadRequest
		echoed = strings.Join(credentialsOf(x), " ")
		if code == "" {
			code = "invalid_request"
		}
	}
	if f.Echo&EchoJSON != 0 {
		description = strings.TrimSpace(description + " " + echoed)
	}
	switch {
	case f.Echo&EchoHTML != 0:
		contentType = "text/html; charset=utf-8"
		ans.body = fmt.Appendf(nil, "<html><body><h1>Error</h1><pre>%s</pre></body></html>\n", echoed)
	case code != "" && f.Body == "":
		contentType = "application/json"
		ans.body = rawErrorJSON(code, description)
		ans.status = http.StatusBadRequest
		if code == "invalid_client" {
			ans.status = http.StatusUnauthorized
		}
	}
	if ans.errno = code; f.Echo&EchoHeaders != 0 {
		oneLine := strings.Map(func(r rune) rune {
			if r < ' ' {
				return -1
			}
			return r
		}, echoed)
		ans.header.Set("X-Request-Id", oneLine)
		ans.header.Set("X-Correlation-Id", oneLine)
		ans.header.Set("WWW-Authenticate", `Bearer error="`+code+`", error_description="`+oneLine+`"`)
	}
	if f.Redirect != "" {
		ans.status = http.StatusTemporaryRedirect
		ans.header.Set("Location", f.Redirect)
	}
	if f.Status != 0 {
		ans.status = f.Status
	}
	ans.header.Set("Content-Type", contentType)
	return ans
}

// credentialsOf lists what is secret in a request, in the spellings a careless
// server may repeat it in.
func credentialsOf(x *exchange) []string {
	var raw []string
	for _, value := range x.Header.Values("Authorization") {
		raw = append(raw, value)
		scheme, token, _ := strings.Cut(value, " ")
		raw = append(raw, token)
		if decoded, err := base64.StdEncoding.DecodeString(token); err == nil && strings.EqualFold(scheme, "Basic") {
			_, secret, _ := strings.Cut(string(decoded), ":")
			raw = append(raw, string(decoded), secret)
			if unescaped, err := url.QueryUnescape(secret); err == nil {
				raw = append(raw, unescaped)
			}
		}
	}
	for _, values := range []url.Values{x.form, x.query} {
		for _, name := range []string{"client_secret", "client_assertion", "code", "code_verifier", "refresh_token", "token", "access_token", "state"} {
			raw = append(raw, values[name]...)
		}
	}
	if len(x.body) > 0 {
		raw = append(raw, string(x.body))
	}
	var all []string
	for _, value := range raw {
		all = append(all, value, url.QueryEscape(value), url.PathEscape(value),
			base64.StdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
