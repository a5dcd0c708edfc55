package smartauthtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// The in-memory transport must look like the network to handler and client.
func TestHandlerTransport(t *testing.T) {
	handler := http.NewServeMux()
	handler.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "" || r.Host != "app.example.org" || r.RequestURI != "/echo?a=b%20c" || r.RemoteAddr == "" {
			t.Errorf("server side: URL %v, Host %q, RequestURI %q, RemoteAddr %q", r.URL, r.Host, r.RequestURI, r.RemoteAddr)
		}
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p" {
			t.Errorf("credentials of the URL: %q, %q", user, password)
		}
		w.Header().Set("X-Sent", "yes")
		w.WriteHeader(http.StatusCreated)
		w.Header().Set("X-Late", "no")
		w.WriteHeader(http.StatusTeapot)
		io.Copy(w, r.Body)
	})
	handler.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	handler.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "abc")
	})
	handler.HandleFunc("/long", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2")
		if _, err := io.WriteString(w, "abc"); !errors.Is(err, http.ErrContentLength) {
			t.Errorf("writing too much: %v", err)
		}
		io.WriteString(w, "ab")
	})
	handler.HandleFunc("/nothing", func(http.ResponseWriter, *http.Request) {})
	client := &http.Client{Transport: smartauthtest.HandlerTransport(handler)}

	t.Run("echo", func(t *testing.T) {
		resp, err := client.Post("https://u:p@app.example.org/echo?a=b%20c", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if string(body) != "hello" || err != nil || resp.StatusCode != http.StatusCreated || resp.Status != "201 Created" ||
			resp.Header.Get("X-Sent") != "yes" || resp.Header.Get("X-Late") != "" || resp.TLS == nil || resp.ContentLength != -1 {
			t.Errorf("got %+v, body %q, %v", resp, body, err)
		}
	})
	for _, test := range []struct {
		path, body      string
		callErr, bodErr error
	}{
		{"/abort", "", io.ErrUnexpectedEOF, nil},
		{"/short", "abc", nil, io.ErrUnexpectedEOF},
		{"/long", "ab", nil, nil},
		{"/nothing", "", nil, nil},
	} {
		t.Run(test.path, func(t *testing.T) {
			resp, err := client.Get("http://app.example.org" + test.path)
			if !errors.Is(err, test.callErr) {
				t.Fatalf("error %v, want %v", err, test.callErr)
			}
			if err != nil {
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if string(body) != test.body || !errors.Is(err, test.bodErr) {
				t.Errorf("body %q, %v", body, err)
			}
		})
	}
}

func TestTransportCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		client := &http.Client{Transport: smartauthtest.HandlerTransport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stream" {
				for {
					if _, err := w.Write(make([]byte, 1000)); err != nil {
						<-r.Context().Done()
						ended <- err
						return
					}
				}
			}
			<-r.Context().Done()
			ended <- r.Context().Err()
		}))}
		get := func(ctx context.Context, path string) (*http.Response, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://app.example.org"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			return client.Do(req)
		}
		func() { // before the answer
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := get(ctx, "/"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			<-ended
		}()
		func() { // while reading
			ctx, cancel := context.WithCancel(t.Context())
			resp, err := get(ctx, "/stream")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			cancel()
			if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			<-ended
		}()
		func() { // by closing the body
			resp, err := get(t.Context(), "/stream")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			<-ended
		}()
	})
}

func TestClosedUnstarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newTokenServer(t, nil)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Stream: -1})
		resp, err := srv.Client().Do(newPost(t, srv.TokenURL, "", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		srv.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("the body went on after Close")
		}
		if resp, err := srv.Client().Get(srv.ConfigurationURL); err == nil {
			resp.Body.Close()
			t.Error("no error after Close")
		}
	})
}

func TestNewUnstartedPanicsWithoutURL(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	smartauthtest.NewUnstarted(&smartauthtest.Options{URL: "/fhir"})
}
