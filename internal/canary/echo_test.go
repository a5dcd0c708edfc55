package canary

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// codings are the spellings in which a careless server repeats a value.
var codings = map[string]func(string) string{
	"raw":               func(s string) string { return s },
	"percent":           url.PathEscape,
	"all percent":       allPercent,
	"form":              url.QueryEscape,
	"base64":            func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64url":         func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte("id:" + s)) },
	"JSON escapes":      allJSON,
	"HTML":              html.EscapeString,
	"truncated":         func(s string) string { return s[:(len(s)+1)*2/3] },
	"end only":          func(s string) string { return s[len(s)/3:] },
	"percent twice":     func(s string) string { return url.QueryEscape(allPercent(s)) },
	"form in base64":    func(s string) string { return base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(s))) },
	"base64 in percent": func(s string) string { return allPercent(base64.StdEncoding.EncodeToString([]byte(s))) },
	"base64 twice": func(s string) string {
		return base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString([]byte(s))))
	},
	"JSON in JSON": func(s string) string { return strings.ReplaceAll(allJSON(s), `\`, `\\`) },
	"at the cut":   func(s string) string { return strings.Repeat("x", 256-len(s)/2) + s },
}

func allJSON(s string) string {
	var b strings.Builder
	for _, r := range s {
		fmt.Fprintf(&b, `\u%04x`, r)
	}
	return b.String()
}

// places are where a server repeats text.
var places = map[string]func(w http.ResponseWriter, text string){
	"description": func(w http.ResponseWriter, text string) {
		oauthError(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client", "error_description": text})
	},
	"description of 400": func(w http.ResponseWriter, text string) {
		oauthError(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant", "error_description": text})
	},
	"description of 200": func(w http.ResponseWriter, text string) {
		oauthError(w, http.StatusOK, map[string]string{"error": "invalid_scope", "error_description": text})
	},
	"description of 500": func(w http.ResponseWriter, text string) {
		oauthError(w, http.StatusInternalServerError, map[string]string{"error": "server_error", "error_description": text})
	},
	"code": func(w http.ResponseWriter, text string) {
		oauthError(w, http.StatusBadRequest, map[string]string{"error": text})
	},
	"error_uri": func(w http.ResponseWriter, text string) {
		oauthError(w, http.StatusBadRequest, map[string]string{"error": "invalid_request", "error_uri": "https://ehr.example.test/?q=" + text})
	},
	"members": func(w http.ResponseWriter, text string) {
		oauthError(w, http.StatusBadRequest, map[string]string{"error": "invalid_client", text: text})
	},
	"headers": func(w http.ResponseWriter, text string) {
		for _, name := range []string{"X-Request-Id", "X-Correlation-Id", "Request-Id", "X-Amzn-Requestid", "WWW-Authenticate", "Etag", "Warning", "Server", "Link"} {
			w.Header().Set(name, headerText(text))
		}
		oauthError(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
	},
	"headers of a page": func(w http.ResponseWriter, text string) {
		w.Header().Set("X-Request-Id", headerText(text))
		w.Header().Set("Retry-After", headerText(text))
		w.Header().Set("Content-Type", headerText("text/"+text))
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, text)
	},
	"media type": func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", headerText(`text/html; charset="`+text+`"`))
		w.WriteHeader(http.StatusBadGateway)
	},
	"page": func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "<html><body>"+text+"</body></html>")
	},
	"page of 200": func(w http.ResponseWriter, text string) { io.WriteString(w, "<html>"+text) },
	"location": func(w http.ResponseWriter, text string) {
		w.Header().Set("Location", headerText("https://other.example.test/"+text))
		w.WriteHeader(http.StatusTemporaryRedirect)
	},
	"malformed location": func(w http.ResponseWriter, text string) {
		w.Header().Set("Location", headerText("https://[other.example.test/"+text+" %zz"))
		w.WriteHeader(http.StatusFound)
	},
	"member of the wrong type": func(w http.ResponseWriter, text string) {
		oauthError(w, http.StatusOK, map[string]any{"access_token": []string{text}, "token_type": text, "expires_in": text})
	},
	"token type": func(w http.ResponseWriter, text string) {
		oauthError(w, http.StatusOK, map[string]any{"access_token": "an-access-token", "token_type": text})
	},
	"broken JSON": func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": "%s", %s`, text, text)
	},
	"duplicate members": func(w http.ResponseWriter, text string) {
		quoted, _ := json.Marshal(text)
		fmt.Fprintf(w, `{"access_token": %s, "access_token": %s}`, quoted, quoted)
	},
	"status text": func(w http.ResponseWriter, text string) {
		raw(w, "HTTP/1.1 401 "+headerText(text)+"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	},
	"status code":      func(w http.ResponseWriter, text string) { raw(w, "HTTP/1.1 "+headerText(text)+"\r\n\r\n") },
	"protocol":         func(w http.ResponseWriter, text string) { raw(w, headerText(text)+" 200 OK\r\n\r\n") },
	"no HTTP":          func(w http.ResponseWriter, text string) { raw(w, headerText(text)+"\r\n") },
	"header without :": func(w http.ResponseWriter, text string) { raw(w, "HTTP/1.1 200 OK\r\n"+headerText(text)+"\r\n\r\n") },
	"content length": func(w http.ResponseWriter, text string) {
		raw(w, "HTTP/1.1 200 OK\r\nContent-Length: "+headerText(text)+"\r\n\r\n")
	},
	"transfer encoding": func(w http.ResponseWriter, text string) {
		raw(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: "+headerText(text)+"\r\n\r\n")
	},
	"chunk": func(w http.ResponseWriter, text string) {
		raw(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+headerText(text)+"\r\n")
	},
	"trailer": func(w http.ResponseWriter, text string) {
		raw(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\n{\r\n0\r\n"+headerText(text)+"\r\n\r\n")
	},
	"cut body": func(w http.ResponseWriter, text string) {
		raw(w, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{\"access_token\":\""+text)
	},
	"wrong date": func(w http.ResponseWriter, text string) {
		w.Header().Set("Date", headerText(text))
		oauthError(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
	},
}

func headerText(s string) string { return strings.NewReplacer("\r", "", "\n", "").Replace(s) }

// raw answers with text as it is and cuts the connection.
func raw(w http.ResponseWriter, text string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, text)
}

func oauthError[T any](w http.ResponseWriter, status int, members map[string]T) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(members)
}

// credentials are what is secret in a request, one by one.
func credentials(r *http.Request) []string {
	var out []string
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, value, _ := strings.Cut(header, " ")
		out = append(out, value)
		if decoded, err := base64.StdEncoding.DecodeString(value); err == nil && scheme == "Basic" {
			_, secret, _ := strings.Cut(string(decoded), ":")
			out = append(out, secret)
			if unescaped, err := url.QueryUnescape(secret); err == nil {
				out = append(out, unescaped)
			}
		}
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		var members map[string]any
		_ = json.NewDecoder(r.Body).Decode(&members)
		for _, name := range []string{"client_secret", "current_client_secret", "registration_access_token"} {
			if value, ok := members[name].(string); ok {
				out = append(out, value)
			}
		}
	}
	if r.Method == http.MethodPost && r.ParseForm() == nil {
		for _, name := range []string{"client_secret", "client_assertion", "code", "code_verifier", "refresh_token", "token"} {
			out = append(out, r.PostForm[name]...)
		}
	}
	return out
}

// An echoServer is an authorization and FHIR server that repeats what it gets.
type echoServer struct {
	*httptest.Server
	w *watch

	mu      sync.Mutex
	respond func(w http.ResponseWriter, text string)
	coding  func(string) string
	answer  http.HandlerFunc // in place of both
	asked   int              // requests that had a credential
	members map[string]any   // of the SMART configuration, beside the usual
}

func newEchoServer(t *testing.T, w *watch) *echoServer {
	s := &echoServer{w: w}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	s.Config.ErrorLog = nil
	return s
}

func (s *echoServer) set(place func(http.ResponseWriter, string), coding func(string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.respond, s.coding, s.answer, s.asked = place, coding, nil, 0
}

func (s *echoServer) handle(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.asked = answer, 0
}

func (s *echoServer) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *echoServer) base() string { return s.URL + "/fhir" }

func (s *echoServer) configuration() map[string]any {
	doc := map[string]any{
		"issuer": s.URL, "jwks_uri": s.URL + "/jwks",
		"authorization_endpoint": s.URL + "/authorize", "token_endpoint": s.URL + "/token",
		"introspection_endpoint": s.URL + "/introspect", "revocation_endpoint": s.URL + "/revoke",
		"capabilities": []string{"launch-standalone"}, "grant_types_supported": []string{"client_credentials"},
	}
	for name, value := range s.members {
		doc[name] = value
	}
	return doc
}

func (s *echoServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	respond, coding, answer := s.respond, s.coding, s.answer
	doc := s.configuration()
	s.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/smart-configuration"):
		oauthError(w, http.StatusOK, doc)
		return
	case r.URL.Path == "/jwks":
		io.WriteString(w, `{"keys":[]}`)
		return
	}
	got := credentials(r)
	for _, value := range got {
		// Of an assertion the header is no secret, and it is like others'.
		_, rest, jwt := strings.Cut(value, ".")
		if jwt && strings.HasPrefix(value, "eyJ") {
			_, signature, _ := strings.Cut(rest, ".")
			s.w.secret("client assertion", signature)
			continue
		}
		s.w.secret("credential of a request", value)
	}
	s.mu.Lock()
	if len(got) > 0 {
		s.asked++
	}
	s.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	var text []string
	for _, value := range got {
		text = append(text, coding(value))
	}
	slices.Sort(text)
	respond(w, strings.Join(text, " "))
}

// tokenAnswer answers with tokens that are known.
func tokenAnswer(w http.ResponseWriter, _ *http.Request) {
	oauthError(w, http.StatusOK, map[string]any{"access_token": accessToken, "refresh_token": refreshToken, "token_type": "Bearer", "expires_in": 300, "scope": "system/*.rs"})
}
