package smartauthtest_test

import (
	"crypto"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestRequests(t *testing.T) {
	clock := newClock()
	srv := newTokenServer(t, &smartauthtest.Options{Clock: clock.Now})
	jwt := assertion(srv.TokenURL, epoch, nil, object{"jti": "j1"})
	token := wantToken(t, post(t, srv, srv.TokenURL, assertionForm(jwt), func(r *http.Request) { r.Header.Set("X-Test", "1") }))
	clock.advance(time.Second)
	get(t, srv, srv.URL+"/Patient?_id=pat-1", token)
	do(t, srv, newPost(t, srv.TokenURL, "not=a;form", nil))

	list := srv.Requests()
	if len(list) != 3 {
		t.Fatalf("%d requests", len(list))
	}
	r := list[0]
	if r.Endpoint != smartauthtest.EndpointToken || !r.Time.Equal(epoch) || r.Method != "POST" || r.URI != "/auth/token" ||
		r.Header.Get("X-Test") != "1" || r.Form.Get("client_assertion") != jwt || r.ClientID != "jwt" ||
		r.AuthMethod != smartauthtest.AuthPrivateKeyJWT || r.Status != 200 || r.Error != "" || r.Fault {
		t.Errorf("token request %+v", r)
	}
	if diff := cmp.Diff(object{"alg": "ES384", "kid": "k1", "typ": "JWT"}, r.AssertionHeader); diff != "" {
		t.Error(diff)
	}
	if r.AssertionClaims["jti"] != "j1" || r.AssertionClaims["exp"] != json.Number(strconv.FormatInt(epoch.Unix()+240, 10)) {
		t.Errorf("claims %v", r.AssertionClaims)
	}
	if r := list[1]; r.Endpoint != smartauthtest.EndpointFHIR || r.ClientID != "jwt" || r.AuthMethod != "bearer" || r.Query.Get("_id") != "pat-1" || !r.Time.Equal(epoch.Add(time.Second)) {
		t.Errorf("FHIR request %+v", r)
	}
	if r := list[2]; string(r.Body) != "not=a;form" || r.Error != "invalid_request" || r.Reason == "" {
		t.Errorf("malformed request %+v", r)
	}
	if srv.TokenRequests() != 2 || srv.Count(smartauthtest.EndpointFHIR) != 1 || len(srv.RequestsTo(smartauthtest.EndpointFHIR)) != 1 {
		t.Error("counts are wrong")
	}
	srv.ResetRequests()
	if len(srv.Requests()) != 0 || srv.TokenRequests() != 0 {
		t.Error("ResetRequests left something")
	}
}

func TestRequestsAreBounded(t *testing.T) {
	for _, test := range []struct {
		limit int
		want  []string
	}{{3, []string{"3", "4", "5"}}, {-1, nil}} {
		srv := newTokenServer(t, &smartauthtest.Options{MaxRequests: test.limit})
		for i := range 6 {
			get(t, srv, srv.URL+"/metadata?n="+strconv.Itoa(i), "")
		}
		var kept []string
		for _, r := range srv.Requests() {
			kept = append(kept, r.Query.Get("n"))
		}
		if diff := cmp.Diff(test.want, kept); diff != "" {
			t.Error(diff)
		}
		if got := srv.Count(smartauthtest.EndpointFHIR); got != 6 {
			t.Errorf("count %d", got)
		}
	}
}

func TestRequestsInFlightAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newTokenServer(t, nil)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Delay: time.Hour})
		go post(t, srv, srv.TokenURL, system(), basic("secret", "new"))
		synctest.Wait()
		if list := srv.Requests(); len(list) != 1 || list[0].Status != 0 || srv.TokenRequests() != 1 {
			t.Errorf("requests %+v", list)
		}
		time.Sleep(2 * time.Hour)
		if list := srv.Requests(); len(list) != 1 || list[0].Status != 200 {
			t.Errorf("requests %+v", list)
		}
	})
}

// Many clients at once, while credentials and faults change.
func TestConcurrency(t *testing.T) {
	eachServer(t, smartauthtest.Options{MaxRequests: 100}, func(t *testing.T, srv *smartauthtest.Server) {
		addTokenClients(srv)
		var wg sync.WaitGroup
		stop := make(chan struct{})
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				srv.SetSecrets("secret", "new", strconv.Itoa(i))
				srv.SetJWKS("jwt", jwks(jwk(ecKey(), "k1"), jwk(rsaKey(), strconv.Itoa(i))))
				srv.Fail(smartauthtest.EndpointFHIR, smartauthtest.Fault{Status: 500, Times: 1})
				srv.ClearFaults()
				srv.SetConfigurationMember("x", i)
				srv.Requests()
			}
		})
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				for range 4 {
					wantToken(t, post(t, srv, srv.TokenURL, system(), basic("secret", "new")))
					wantToken(t, post(t, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, time.Now(), nil, nil)), nil))
					get(t, srv, srv.ConfigurationURL, "")
				}
			})
		}
		callers.Wait()
		close(stop)
		wg.Wait()
		if got := srv.TokenRequests(); got != 400 {
			t.Errorf("%d token requests, want 400", got)
		}
	})
}

func TestDayInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newTokenServer(t, &smartauthtest.Options{MaxRequests: -1})
		start := time.Now()
		var last string
		for range 24 * 60 * 6 {
			token := wantToken(t, post(t, srv, srv.TokenURL, system(), basic("secret", "new")))
			if token == last {
				t.Fatal("the same token twice")
			}
			last = token
			time.Sleep(10 * time.Second)
		}
		if got := time.Since(start); got != 24*time.Hour || srv.TokenRequests() != 8640 || !srv.Active(last) {
			t.Errorf("%d requests in %s", srv.TokenRequests(), got)
		}
		time.Sleep(290 * time.Second)
		if srv.Active(last) {
			t.Error("the last token outlives its 300 s")
		}
	})
}

func BenchmarkTokenParallel(b *testing.B) {
	for name, key := range map[string]crypto.Signer{"secret": nil, "ES384": ecKey()} {
		b.Run(name, func(b *testing.B) {
			srv := newTokenServer(b, nil)
			b.SetParallelism(100)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if key == nil {
						wantToken(b, post(b, srv, srv.TokenURL, system(), basic("secret", "new")))
					} else {
						wantToken(b, post(b, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, time.Now(), nil, nil)), nil))
					}
				}
			})
		})
	}
}
