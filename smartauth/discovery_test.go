package smartauth_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestDiscoveryIsCachedAndServesOnWhileTheServerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		srv.SetConfigurationCacheControl("")
		seen := new(events)
		client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.Observer = seen })
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if _, err := client.Discover(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		count := func() int { return srv.Count(smartauthtest.EndpointConfiguration) }
		if n := count(); n != 1 {
			t.Fatalf("%d requests, want 1", n)
		}
		first, _ := client.Discover(t.Context())
		time.Sleep(59 * time.Minute)
		if _, err := client.Discover(t.Context()); err != nil || count() != 1 {
			t.Fatalf("err = %v, %d requests within the hour", err, count())
		}

		srv.Fail(smartauthtest.EndpointConfiguration, smartauthtest.Fault{Status: 503, Body: "<html>"})
		time.Sleep(2 * time.Minute)
		for range 10 {
			if doc, err := client.Discover(t.Context()); err != nil || doc != first {
				t.Fatalf("not the last document while the server is down: %v", err)
			}
		}
		if n := count(); n != 2 {
			t.Errorf("%d requests, want one for all within 5 s", n)
		}
		if n := seen.count(smartcred.EventStaleInUse); n != 1 {
			t.Errorf("%d stale_in_use events, want 1", n)
		}

		srv.ClearFaults()
		srv.SetConfigurationMember("management_endpoint", "https://ehr.example.test/manage")
		time.Sleep(6 * time.Second)
		doc, err := client.Discover(t.Context())
		if err != nil || doc.ManagementEndpoint == "" {
			t.Errorf("not the new document: %v", err)
		}
	})
}

func TestDiscoveryThatHangsDoesNotHoldTokensUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		client := newClient(t, srv, nil)
		mustToken(t, client)
		time.Sleep(2 * time.Hour)
		srv.Fail(smartauthtest.EndpointConfiguration, smartauthtest.Fault{Delay: time.Hour})
		start := time.Now()
		mustToken(t, client)
		if waited := time.Since(start); waited > 2*time.Second {
			t.Errorf("waited %s for a discovery that hangs", waited)
		}
	})
}

func TestDiscoveryRevalidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		client := newClient(t, srv, nil)
		first, err := client.Discover(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(61 * time.Minute)
		if doc, err := client.Discover(t.Context()); err != nil || doc != first {
			t.Errorf("want the same document after a 304: %v", err)
		}
		requests := srv.RequestsTo(smartauthtest.EndpointConfiguration)
		if len(requests) != 2 || requests[1].Status != http.StatusNotModified {
			t.Errorf("requests = %+v", requests)
		}
	})
}

func TestStatedEndpointSkipsDiscovery(t *testing.T) {
	srv := newServer(t, nil)
	client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.TokenEndpoint = srv.TokenURL })
	mustToken(t, client)
	if n := srv.Count(smartauthtest.EndpointConfiguration); n != 0 {
		t.Errorf("%d discovery requests", n)
	}
}

func TestBadDiscoveryAnswers(t *testing.T) {
	tests := map[string]struct {
		fault smartauthtest.Fault
		want  string
	}{
		"not found":               {smartauthtest.Fault{Status: 404, Body: "<html>"}, "HTTP 404"},
		"HTML":                    {smartauthtest.Fault{Status: 200, Body: "<html>secret-page</html>"}, "HTTP 200"},
		"cut off":                 {smartauthtest.Fault{Truncate: 20}, "HTTP 200"},
		"dropped":                 {smartauthtest.Fault{Drop: true}, "discovery"},
		"endless":                 {smartauthtest.Fault{Status: 200, Stream: -1, Body: `{"token_endpoint":"`}, "over 1048576 bytes"},
		"too slow":                {smartauthtest.Fault{Drip: time.Second}, "deadline"},
		"too late":                {smartauthtest.Fault{Delay: time.Hour}, "deadline"},
		"redirect to elsewhere":   {smartauthtest.Fault{Redirect: "https://evil.example.test/x"}, "redirect"},
		"redirect in a circle":    {smartauthtest.Fault{Redirect: "/fhir/r4/.well-known/smart-configuration"}, "redirects"},
		"a location that is none": {smartauthtest.Fault{Redirect: "https://secret-page:port"}, "discovery"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newServer(t, nil)
				srv.Fail(smartauthtest.EndpointConfiguration, test.fault)
				client := newClient(t, srv, nil)
				_, err := client.Discover(t.Context())
				var server *smartauth.ServerError
				if !errors.As(err, &server) {
					t.Fatalf("err = %v, want a ServerError", err)
				}
				if !strings.Contains(err.Error(), test.want) {
					t.Errorf("err = %v, want %q in it", err, test.want)
				}
				if strings.Contains(err.Error(), "secret-page") {
					t.Errorf("err = %v has the answer in it", err)
				}
				if _, err := client.Token(t.Context()); err == nil {
					t.Error("a token without a token endpoint")
				}
				if n := srv.TokenRequests(); n != 0 {
					t.Errorf("%d token requests", n)
				}
			})
		})
	}
}

func TestDiscoveredEndpointsThatAreRefused(t *testing.T) {
	for name, endpoint := range map[string]string{
		"http":          "http://ehr.example.test/token",
		"http loopback": "http://127.0.0.1/token",
		"with password": "https://user:pass@ehr.example.test/token",
		"another":       "https://evil.example.test/token",
	} {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t, nil)
			srv.SetConfigurationMember("token_endpoint", endpoint)
			client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.AllowedAuthHosts = []string{"ehr.example.test"} })
			_, err := client.Token(t.Context())
			if !errors.Is(err, smartauth.ErrEndpointNotAllowed) {
				t.Errorf("err = %v, want ErrEndpointNotAllowed", err)
			}
			if n := srv.TokenRequests(); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

func TestAllowedAuthHosts(t *testing.T) {
	for allowed, want := range map[string]bool{
		"ehr.example.test": true, "EHR.example.test:443": true, "ehr.example.test:8443": false, "example.test": false,
	} {
		srv := newServer(t, nil)
		client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.AllowedAuthHosts = []string{"other.test", allowed} })
		if _, err := client.Token(t.Context()); (err == nil) != want {
			t.Errorf("allowed_auth_hosts %s: err = %v", allowed, err)
		}
	}
}

func TestCacheControlShortensDiscovery(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": time.Hour, "max-age=600": 10 * time.Minute, "private, max-age=5": time.Minute, "no-store": time.Minute,
		"max-age=90000": time.Hour, "max-age=soon": time.Hour,
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := newServer(t, nil)
			srv.SetConfigurationCacheControl(header)
			client := newClient(t, srv, nil)
			for _, wait := range []time.Duration{0, want - time.Second, 2 * time.Second} {
				time.Sleep(wait)
				if _, err := client.Discover(t.Context()); err != nil {
					t.Fatal(err)
				}
				if n, most := srv.Count(smartauthtest.EndpointConfiguration), map[bool]int{true: 2, false: 1}[wait == 2*time.Second]; n != most {
					t.Errorf("Cache-Control %q: %d requests, want %d", header, n, most)
				}
			}
		})
	}
}

// TestHalfADocumentDoesNotReplaceAWholeOne: a server under maintenance answers
// 200 with next to nothing.
func TestHalfADocumentDoesNotReplaceAWholeOne(t *testing.T) {
	for _, half := range []string{`{}`, `{"error":"maintenance"}`, `{"token_endpoint":7}`} {
		synctest.Test(t, func(t *testing.T) {
			srv := newServer(t, nil)
			client := newClient(t, srv, nil)
			mustToken(t, client)
			time.Sleep(2 * time.Hour)
			srv.SetConfiguration([]byte(half))
			mustToken(t, client)

			fresh := newClient(t, srv, nil) // has no whole one: it asks again soon
			if _, err := fresh.Token(t.Context()); err == nil {
				t.Errorf("%s: a token without a token endpoint", half)
			}
			srv.SetConfiguration(nil)
			time.Sleep(10 * time.Second)
			mustToken(t, fresh)
		})
	}
}
