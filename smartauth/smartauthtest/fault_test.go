package smartauthtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// attempt sends a token request and reads the answer, whatever comes of it.
func attempt(ctx context.Context, t testing.TB, srv *smartauthtest.Server, form url.Values) (int, string, error) {
	t.Helper()
	resp, err := srv.Client().Do(newPost(t, srv.TokenURL, form.Encode(), basic("secret", "new")).WithContext(ctx))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func TestFaultAnswers(t *testing.T) {
	eachServer(t, smartauthtest.Options{}, func(t *testing.T, srv *smartauthtest.Server) {
		addTokenClients(srv)
		for _, test := range []struct {
			name        string
			fault       smartauthtest.Fault
			status      int
			contentType string
			body        string
		}{
			{"status", smartauthtest.Fault{Status: 503, Header: http.Header{"retry-after": {"7"}}}, 503, "text/plain; charset=utf-8", ""},
			{"html", smartauthtest.Fault{Body: "<html>down"}, 200, "text/html; charset=utf-8", "<html>down"},
			{"json", smartauthtest.Fault{Status: 502, Body: `{"a`}, 502, "application/json", `{"a`},
			{"oauth", smartauthtest.Fault{Error: "invalid_client"}, 401, "application/json", `{"error":"invalid_client"}`},
			{"oauth in a 500", smartauthtest.Fault{Status: 500, Error: "invalid_client", Description: "x"}, 500, "application/json", `{"error":"invalid_client","error_description":"x"}`},
			{"handler", smartauthtest.Fault{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(418)
				io.WriteString(w, r.PostFormValue("grant_type"))
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
			})}, 418, "text/plain; charset=utf-8", "client_credentials"},
		} {
			t.Run(test.name, func(t *testing.T) {
				test.fault.Times = 1
				srv.Fail(smartauthtest.EndpointToken, test.fault)
				r := post(t, srv, srv.TokenURL, system(), basic("secret", "new"))
				if r.StatusCode != test.status || r.body != test.body {
					t.Errorf("answer %d %q", r.StatusCode, r.body)
				}
				if got := r.Header.Get("Content-Type"); test.fault.Handler == nil && got != test.contentType {
					t.Errorf("Content-Type %q", got)
				}
				if got := r.Header.Get("Retry-After"); test.fault.Header != nil && got != "7" {
					t.Errorf("Retry-After %q", got)
				}
				list := srv.Requests()
				if last := list[len(list)-1]; !last.Fault || last.Status != test.status || last.ClientID != "secret" {
					t.Errorf("logged %+v", last)
				}
				wantToken(t, post(t, srv, srv.TokenURL, system(), basic("secret", "new")))
			})
		}
		t.Run("redirect", func(t *testing.T) {
			srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Redirect: "https://evil.example.org/", Times: 1}, smartauthtest.Fault{Redirect: "/x", Status: 302, Times: 1})
			for _, want := range []struct {
				status   int
				location string
			}{{307, "https://evil.example.org/"}, {302, "/x"}} {
				r := post(t, srv, srv.TokenURL, system(), basic("secret", "new"))
				if r.StatusCode != want.status || r.Header.Get("Location") != want.location {
					t.Errorf("answer %d to %q", r.StatusCode, r.Header.Get("Location"))
				}
			}
		})
		t.Run("header on a real answer", func(t *testing.T) {
			srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Header: http.Header{"Content-Type": {"text/html"}}, Times: 1})
			r := post(t, srv, srv.TokenURL, system(), basic("secret", "new"))
			if wantToken(t, r); r.Header.Get("Content-Type") != "text/html" {
				t.Errorf("Content-Type %q", r.Header.Get("Content-Type"))
			}
		})
		t.Run("drop", func(t *testing.T) {
			srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Drop: true, Times: 1})
			if status, _, err := attempt(t.Context(), t, srv, system()); err == nil {
				t.Errorf("status %d, want an error", status)
			}
			list := srv.Requests()
			if last := list[len(list)-1]; last.Status != 0 || !last.Fault {
				t.Errorf("logged %+v", last)
			}
		})
		t.Run("truncate", func(t *testing.T) {
			srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Truncate: 10, Times: 1})
			status, body, err := attempt(t.Context(), t, srv, system())
			if status != 200 || len(body) != 10 || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("status %d, body %q, error %v", status, body, err)
			}
		})
		t.Run("stream", func(t *testing.T) {
			srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Stream: 1 << 20, Body: `{"x":"`, Times: 1})
			status, body, err := attempt(t.Context(), t, srv, system())
			if err != nil || status != 200 || len(body) != 1<<20 || !strings.HasPrefix(body, `{"x":"aaa`) {
				t.Errorf("status %d, %d bytes, error %v", status, len(body), err)
			}
		})
		t.Run("endless", func(t *testing.T) {
			srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Stream: -1, Times: 1})
			resp, err := srv.Client().Do(newPost(t, srv.TokenURL, system().Encode(), nil))
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.CopyN(io.Discard, resp.Body, 4<<20); err != nil {
				t.Errorf("after %d bytes: %v", n, err)
			}
			resp.Body.Close()
		})
	})
}

func TestFaultStages(t *testing.T) {
	setUp := func(t *testing.T, f smartauthtest.Fault) (*smartauthtest.Server, string) {
		srv := newLaunchServer(t, nil)
		code := authorize(t, srv, "client_id", "secret").Get("code")
		f.Times = 1
		srv.Fail(smartauthtest.EndpointToken, f)
		return srv, code
	}
	exchange := func(t *testing.T, srv *smartauthtest.Server, code, secret string) (*response, error) {
		form := codeForm(code)
		form.Del("client_id")
		resp, err := srv.Client().Do(newPost(t, srv.TokenURL, form.Encode(), basic("secret", secret)))
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return &response{resp, string(body)}, err
	}
	t.Run("accepted", func(t *testing.T) {
		srv, code := setUp(t, smartauthtest.Fault{Stage: smartauthtest.Accepted, Error: "invalid_client"})
		r, err := exchange(t, srv, code, "wrong")
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, srv, r, 401, "invalid_client", "wrong client secret") // not struck
		if r, err = exchange(t, srv, code, "s3cret"); err != nil || r.StatusCode != 401 || r.body != `{"error":"invalid_client"}` {
			t.Fatalf("answer %+v, %v", r, err)
		}
		if r, err = exchange(t, srv, code, "s3cret"); err != nil {
			t.Fatal(err)
		}
		wantToken(t, r) // the code was not used up
	})
	t.Run("done", func(t *testing.T) {
		srv, code := setUp(t, smartauthtest.Fault{Stage: smartauthtest.Done, Drop: true})
		r, err := exchange(t, srv, code, "wrong")
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, srv, r, 401, "invalid_client", "wrong client secret") // not struck
		if _, err = exchange(t, srv, code, "s3cret"); err == nil {
			t.Fatal("no error")
		}
		if r, err = exchange(t, srv, code, "s3cret"); err != nil {
			t.Fatal(err)
		}
		wantError(t, srv, r, 400, "invalid_grant", "used before")
	})
	t.Run("authorize", func(t *testing.T) {
		srv := newLaunchServer(t, nil)
		srv.Fail(smartauthtest.EndpointAuthorize, smartauthtest.Fault{Error: "access_denied", Description: "the user said no", Times: 1})
		if q := authorize(t, srv, "state", ""); q.Get("error") != "invalid_request" {
			t.Errorf("callback %v", q)
		}
		q := authorize(t, srv)
		if q.Get("error") != "access_denied" || q.Get("error_description") != "the user said no" || q.Get("state") != state || q.Has("code") {
			t.Errorf("callback %v", q)
		}
		if q := authorize(t, srv); q.Get("code") == "" {
			t.Errorf("callback %v", q)
		}
		srv.Fail(smartauthtest.EndpointAuthorize, smartauthtest.Fault{Stage: smartauthtest.Accepted, Status: 500})
		if r := get(t, srv, srv.AuthorizeURL+"?"+authorizationParams(srv).Encode(), ""); r.StatusCode != 500 {
			t.Errorf("status %d", r.StatusCode)
		}
	})
	t.Run("fhir", func(t *testing.T) {
		srv := newTokenServer(t, nil)
		srv.Fail(smartauthtest.EndpointFHIR, smartauthtest.Fault{Stage: smartauthtest.Accepted, Status: 429, ClientID: "secret"})
		if r := get(t, srv, srv.URL+"/Patient/pat-1", srv.IssueToken("secret", "system/*.rs")); r.StatusCode != 429 {
			t.Errorf("status %d", r.StatusCode)
		}
		if r := get(t, srv, srv.URL+"/Patient/pat-1", srv.IssueToken("jwt", "system/*.rs")); r.StatusCode != 200 {
			t.Errorf("another client: status %d", r.StatusCode)
		}
	})
}

func TestFaultLine(t *testing.T) {
	srv := newTokenServer(t, nil)
	srv.Fail(smartauthtest.EndpointToken,
		smartauthtest.Fault{Status: 501, Times: 2}, smartauthtest.Fault{Status: 502, Times: 1, ClientID: "secret"}, smartauthtest.Fault{Status: 503})
	var got []int
	for i := range 5 {
		change := basic("secret", "new")
		if i == 2 {
			change = basic("post", "x")
		}
		got = append(got, post(t, srv, srv.TokenURL, system(), change).StatusCode)
	}
	if want := []int{501, 501, 503, 502, 503}; !slices.Equal(got, want) {
		t.Errorf("statuses %v, want %v", got, want)
	}
	srv.Fail(smartauthtest.EndpointConfiguration, smartauthtest.Fault{Status: 500})
	srv.ClearFaults(smartauthtest.EndpointToken)
	wantToken(t, post(t, srv, srv.TokenURL, system(), basic("secret", "new")))
	if r := get(t, srv, srv.ConfigurationURL, ""); r.StatusCode != 500 {
		t.Errorf("the other endpoint's fault is gone: status %d", r.StatusCode)
	}
	srv.ClearFaults()
	if r := get(t, srv, srv.ConfigurationURL, ""); r.StatusCode != 200 {
		t.Errorf("status %d", r.StatusCode)
	}
}

func TestOneInIsSeeded(t *testing.T) {
	run := func(seed uint64) (refused []int) {
		srv := newTokenServer(t, &smartauthtest.Options{Seed: seed})
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Stage: smartauthtest.Accepted, OneIn: 10, Error: "invalid_client"})
		for i := range 1000 {
			if post(t, srv, srv.TokenURL, system(), basic("secret", "new")).StatusCode == 401 {
				refused = append(refused, i)
			}
		}
		return refused
	}
	first := run(1)
	if len(first) < 60 || len(first) > 140 {
		t.Errorf("%d of 1000 refused, want about 100", len(first))
	}
	if !slices.Equal(first, run(1)) {
		t.Error("the same seed gives another sequence")
	}
	if slices.Equal(first, run(2)) {
		t.Error("another seed gives the same sequence")
	}
}

func TestEcho(t *testing.T) {
	srv := newTokenServer(t, nil)
	const secret = `pä"ss`
	jwt := assertion(srv.TokenURL, time.Now(), nil, nil)
	for _, test := range []struct {
		name   string
		form   url.Values
		change func(*http.Request)
		want   []string
	}{
		{"basic", system(), func(r *http.Request) { r.SetBasicAuth("secret", url.QueryEscape(secret)) }, []string{secret, url.QueryEscape(secret), "Basic "}},
		{"assertion", assertionForm(jwt), nil, []string{jwt}},
		{"code", codeForm("the-code"), nil, []string{"the-code", verifier}},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv.Fail(smartauthtest.EndpointToken,
				smartauthtest.Fault{Echo: smartauthtest.EchoJSON, Error: "invalid_client", Times: 1},
				smartauthtest.Fault{Echo: smartauthtest.EchoHTML | smartauthtest.EchoHeaders, Status: 500, Times: 1})
			r := post(t, srv, srv.TokenURL, test.form, test.change)
			description, _ := r.members(t)["error_description"].(string)
			html := post(t, srv, srv.TokenURL, test.form, test.change)
			if html.StatusCode != 500 || !strings.HasPrefix(html.Header.Get("Content-Type"), "text/html") {
				t.Errorf("status %d, %v", html.StatusCode, html.Header)
			}
			for _, want := range test.want {
				for where, text := range map[string]string{
					"JSON": description, "HTML": html.body, "X-Request-Id": html.Header.Get("X-Request-Id"), "WWW-Authenticate": html.Header.Get("WWW-Authenticate"),
				} {
					if !strings.Contains(text, want) {
						t.Errorf("%s does not hold %q", where, want)
					}
				}
			}
		})
	}
}

func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newTokenServer(t, nil)
		start := time.Now()
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Delay: time.Hour, Times: 2}, smartauthtest.Fault{Delay: time.Minute, Drip: time.Second, Body: "0123456789", Times: 1})

		wantToken(t, post(t, srv, srv.TokenURL, system(), basic("secret", "new")))
		if got := time.Since(start); got != time.Hour {
			t.Errorf("answered after %s", got)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start = time.Now()
		if _, _, err := attempt(ctx, t, srv, system()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if got := time.Since(start); got != 10*time.Millisecond {
			t.Errorf("back after %s", got)
		}

		start = time.Now()
		if _, body, err := attempt(t.Context(), t, srv, system()); err != nil || body != "0123456789" {
			t.Errorf("body %q, %v", body, err)
		}
		if got := time.Since(start); got != time.Minute+10*time.Second {
			t.Errorf("dripped for %s", got)
		}

		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Delay: time.Hour, Times: 1}, smartauthtest.Fault{Drip: time.Hour})
		for range 2 {
			failed := make(chan error)
			go func() {
				_, _, err := attempt(t.Context(), t, srv, system())
				failed <- err
			}()
			defer func() {
				if err := <-failed; err == nil {
					t.Error("Close did not end the request")
				}
			}()
		}
		synctest.Wait()
		srv.Close()
	})
}

func TestCloseEndsRequests(t *testing.T) {
	srv, err := smartauthtest.Start(nil)
	if err != nil {
		t.Fatal(err)
	}
	addTokenClients(srv)
	arrived := make(chan struct{})
	srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})})
	failed := make(chan error, 1)
	go func() {
		_, _, err := attempt(context.WithoutCancel(t.Context()), t, srv, system())
		failed <- err
	}()
	<-arrived
	srv.Close()
	if err := <-failed; err == nil {
		t.Error("no error")
	}
	srv.Close() // again is fine
}
