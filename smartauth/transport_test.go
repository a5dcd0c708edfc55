package smartauth_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestHTTPClientReadsFHIR(t *testing.T) {
	srv := newServer(t, nil)
	client := newClient(t, srv, nil)
	resp, err := client.HTTPClient().Get(srv.URL + "/Patient/pat-1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("HTTP %d", resp.StatusCode)
	}
}

// TestTokenGoesToTheFHIRBaseOnly sends requests to places near the base and
// looks which of them carry the token.
func TestTokenGoesToTheFHIRBaseOnly(t *testing.T) {
	srv := newServer(t, &smartauthtest.Options{URL: "https://ehr.example.test/fhir/r4"})
	var got http.Header
	base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
		if strings.HasSuffix(req.URL.Path, "/token") || strings.HasSuffix(req.URL.Path, "/smart-configuration") {
			return srv.Transport().RoundTrip(req)
		}
		got = req.Header
		return &http.Response{StatusCode: 200, Body: http.NoBody, Header: http.Header{}, Request: req}, nil
	})
	client := newClient(t, srv, func(cfg *smartauth.Config) {
		cfg.HTTPClient = &http.Client{Transport: base}
		cfg.FHIRPrefixes = []string{"https://files.example.test/bulk"}
	})
	for target, want := range map[string]bool{
		"https://ehr.example.test/fhir/r4":                       true,
		"https://ehr.example.test/fhir/r4/":                      true,
		"https://ehr.example.test/fhir/r4/Patient/1":             true,
		"https://EHR.example.test:443/fhir/r4/Patient?name=a..b": true,
		"https://ehr.example.test/fhir/r4/Binary/a..b":           true,
		"https://files.example.test/bulk/1.ndjson":               true,
		"https://ehr.example.test/fhir/r4b/Patient/1":            false,
		"https://ehr.example.test/fhir/R4/Patient/1":             false,
		"https://ehr.example.test/fhir":                          false,
		"https://ehr.example.test/":                              false,
		"https://ehr.example.test/fhir/r4/../admin":              false,
		"https://ehr.example.test/fhir/r4/%2e%2e/admin":          false,
		"https://ehr.example.test/fhir/r4/%252e%252e/admin":      false,
		"https://ehr.example.test/fhir/r4/..%2fadmin":            false,
		`https://ehr.example.test/fhir/r4/..%5cadmin`:            false,
		"https://ehr.example.test/fhir/r4/..;/..;x/admin":        false,
		"https://ehr.example.test/fhir%2fr4/Patient":             false,
		"http://ehr.example.test/fhir/r4/Patient/1":              false,
		"https://ehr.example.test:8443/fhir/r4/Patient/1":        false,
		"https://ehr.example.test.evil.test/fhir/r4/Patient/1":   false,
		"https://evil.test/fhir/r4/Patient/1":                    false,
		"https://files.example.test/bulkier/1.ndjson":            false,
		"https://user@ehr.example.test/fhir/r4/Patient/1":        false,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.HTTPClient().Transport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		resp.Body.Close()
		if has := strings.HasPrefix(got.Get("Authorization"), "Bearer "); has != want {
			t.Errorf("%s: token sent: %t, want %t", target, has, want)
		}
		if req.Header.Get("Authorization") != "" {
			t.Errorf("%s: the caller's request was changed", target)
		}
	}
}

func TestCallersOwnAuthorizationStays(t *testing.T) {
	srv := newServer(t, nil)
	client := newClient(t, srv, nil)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/Patient/pat-1", nil)
	req.Header.Set("Authorization", "Bearer callers-own")
	resp, err := client.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if n := srv.TokenRequests(); n != 0 || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d token requests, HTTP %d; want the caller's header as it is", n, resp.StatusCode)
	}
}

// TestTokenFollowsNoRedirect uses a real network, whose client copies headers.
func TestTokenFollowsNoRedirect(t *testing.T) {
	srv := smartauthtest.NewServer(t, nil)
	srv.AddClient(smartauthtest.Client{ID: testClient, Secrets: []string{testSecret}})
	var leaked []string
	var mu sync.Mutex
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		leaked = append(leaked, req.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.AllowInsecureLoopback = true })
	for name, location := range map[string]string{
		"to another origin": elsewhere.URL + "/fhir/r4/Patient/pat-1",
		"to the same base":  srv.URL + "/Patient/pat-2",
	} {
		srv.Fail(smartauthtest.EndpointFHIR, smartauthtest.Fault{Redirect: location, Status: 307, Times: 1})
		resp, err := client.HTTPClient().Get(srv.URL + "/Patient/pat-1")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		resp.Body.Close()
	}
	fhir := srv.RequestsTo(smartauthtest.EndpointFHIR)
	if last := fhir[len(fhir)-1]; last.Header.Get("Authorization") != "" && strings.Contains(last.URI, "pat-2") {
		t.Error("a redirect to the same base carried the token")
	}
	if len(leaked) != 1 || leaked[0] != "" {
		t.Errorf("another origin got %d requests, Authorization %q", len(leaked), leaked)
	}
}

func TestUnauthorizedForcesOneRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		client := newClient(t, srv, nil)
		get := func() int {
			resp, err := client.HTTPClient().Get(srv.URL + "/Patient/pat-1")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			return resp.StatusCode
		}
		if status := get(); status != 200 {
			t.Fatalf("HTTP %d", status)
		}
		srv.RevokeTokens()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if status := get(); status != 200 {
					t.Errorf("after a revocation: HTTP %d", status)
				}
			})
		}
		wg.Wait()
		if n := srv.TokenRequests(); n != 2 {
			t.Errorf("%d token requests, want one renewal for all", n)
		}

		// A server that answers 401 whatever the token is not asked for a new one
		// with every request.
		srv.Fail(smartauthtest.EndpointFHIR, smartauthtest.Fault{Status: 401})
		for range 60 {
			if status := get(); status != 401 {
				t.Fatalf("HTTP %d", status)
			}
			time.Sleep(time.Second)
		}
		if n := srv.TokenRequests(); n > 4 {
			t.Errorf("%d token requests in a minute of 401s, want at most 2 more", n)
		}
	})
}

func TestBodyIsReplayedAfterUnauthorized(t *testing.T) {
	srv := newServer(t, nil)
	var bodies []string
	client := newClient(t, srv, func(cfg *smartauth.Config) {
		cfg.HTTPClient = &http.Client{Transport: roundTripFunc(func(req *http.Request) (*http.Response, error) {
			if req.Method != http.MethodPost || strings.HasSuffix(req.URL.Path, "/token") {
				return srv.Transport().RoundTrip(req)
			}
			body, _ := io.ReadAll(req.Body)
			bodies = append(bodies, string(body))
			return &http.Response{StatusCode: 401, Body: http.NoBody, Header: http.Header{}, Request: req}, nil
		})}
	})
	post := func(body io.Reader) {
		t.Helper()
		resp, err := client.HTTPClient().Post(srv.URL+"/Patient", "application/fhir+json", body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 401 {
			t.Errorf("HTTP %d", resp.StatusCode)
		}
	}
	post(strings.NewReader("patient"))
	if len(bodies) != 2 || bodies[1] != "patient" {
		t.Errorf("bodies = %q, want the same one twice", bodies)
	}
	bodies = nil
	post(io.MultiReader(strings.NewReader("stream"))) // can't be replayed
	if len(bodies) != 1 {
		t.Errorf("bodies = %q, want one request", bodies)
	}
}

func TestTransportClosesTheBodyWhenThereIsNoToken(t *testing.T) {
	srv := newServer(t, nil)
	srv.SetSecrets(testClient, "another")
	client := newClient(t, srv, nil)
	body := &closeRecorder{Reader: strings.NewReader("x")}
	req := &http.Request{Method: http.MethodPost, URL: mustURL(t, srv.URL+"/Patient"), Body: body, Header: http.Header{}}
	if _, err := client.HTTPClient().Transport.RoundTrip(req.WithContext(t.Context())); err == nil {
		t.Fatal("no error")
	}
	if !body.closed {
		t.Error("the request's body was not closed")
	}
}

type closeRecorder struct {
	io.Reader
	closed bool
}

func (c *closeRecorder) Close() error { c.closed = true; return nil }

func mustURL(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
