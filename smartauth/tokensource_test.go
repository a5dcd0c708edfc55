package smartauth_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestTokenIsCachedAndRenewedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil) // tokens of 300 s: renewed 60 s ahead, or up to 6 s later
		client := newClient(t, srv, nil)
		first := mustToken(t, client)
		time.Sleep(239 * time.Second)
		if got := mustToken(t, client); got != first || srv.TokenRequests() != 1 {
			t.Fatalf("another token before renewal was due; %d requests", srv.TokenRequests())
		}
		time.Sleep(8 * time.Second)
		if got := mustToken(t, client); got != first {
			t.Error("the read that starts the renewal did not get the live token")
		}
		synctest.Wait()
		if got := mustToken(t, client); got == first || srv.TokenRequests() != 2 {
			t.Errorf("not renewed once: %d requests", srv.TokenRequests())
		}
	})
}

func TestRenewalIsOneFlightWhileOthersUseTheOldToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		client := newClient(t, srv, nil)
		first := mustToken(t, client)
		time.Sleep(250 * time.Second)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Delay: 20 * time.Second, Times: 1})
		start := time.Now()
		for range 1000 {
			if got := mustToken(t, client); got != first {
				t.Fatal("a read during the renewal did not get the old token")
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("reads waited %s for the renewal", waited)
		}
		time.Sleep(30 * time.Second)
		if n := srv.TokenRequests(); n != 2 {
			t.Errorf("%d token requests, want 2", n)
		}
	})
}

func TestHerdMakesOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Delay: time.Second, Times: 1})
		client := newClient(t, srv, nil)
		var wg sync.WaitGroup
		tokens := make([]*smartauth.Token, 10_000)
		for i := range tokens {
			wg.Go(func() { tokens[i], _ = client.Token(t.Context()) })
		}
		wg.Wait()
		for _, token := range tokens {
			if token == nil || token != tokens[0] {
				t.Fatal("callers did not get the same token")
			}
		}
		if n := srv.TokenRequests(); n != 1 {
			t.Errorf("%d token requests, want 1", n)
		}
	})
}

func TestCallersWaitOnTheirOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Delay: 300 * time.Millisecond, Times: 1})
		client := newClient(t, srv, nil)

		// The caller that starts the flight gives up first.
		impatient, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := client.Token(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v, want the caller's deadline", err)
		}
		if waited := time.Since(start); waited != 10*time.Millisecond {
			t.Errorf("came back after %s, want at its deadline", waited)
		}
		if _, err := client.Token(t.Context()); err != nil {
			t.Errorf("the flight ended with the caller that started it: %v", err)
		}
		if n := srv.TokenRequests(); n != 1 {
			t.Errorf("%d token requests, want 1", n)
		}
	})
}

func TestFailedFlightsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Status: 503, Body: "<html>", Header: map[string][]string{"Content-Type": {"text/html"}}})
		client := newClient(t, srv, nil)
		for range 600 { // a call a second for ten minutes
			if _, err := client.Token(t.Context()); err == nil {
				t.Fatal("a token out of a broken server")
			}
			time.Sleep(time.Second)
		}
		// 1, 2, 4, … 32 s, then one a minute, each up to a fifth shorter.
		if n := srv.TokenRequests(); n < 14 || n > 19 {
			t.Errorf("%d token requests in 10 minutes, want about 15", n)
		}
		srv.ClearFaults()
		time.Sleep(time.Minute)
		mustToken(t, client)
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Status: 429, Header: map[string][]string{"Retry-After": {"45"}}, Body: "slow down"})
		client := newClient(t, srv, nil)
		for range 44 {
			_, err := client.Token(t.Context())
			var server *smartauth.ServerError
			if !errors.As(err, &server) || server.Status != 429 || server.RetryAfter != 45*time.Second {
				t.Fatalf("err = %v, want HTTP 429 with its Retry-After", err)
			}
			time.Sleep(time.Second)
		}
		if n := srv.TokenRequests(); n != 1 {
			t.Errorf("%d token requests before Retry-After was over", n)
		}
		srv.ClearFaults()
		time.Sleep(2 * time.Second)
		mustToken(t, client)
	})
}

func TestLiveTokenServesWhileRenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		client := newClient(t, srv, nil)
		first := mustToken(t, client)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Status: 500, Body: "{}"})
		for time.Since(first.Received) < 299*time.Second {
			if got := mustToken(t, client); got != first {
				t.Fatal("not the live token")
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		if _, err := client.Token(t.Context()); err == nil {
			t.Error("an expired token was served")
		}
	})
}

// TestExpiredOnArrival: such a token is given to who waits for it, is not
// cached, and does not make every call a request.
func TestExpiredOnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, &smartauthtest.Options{ModifyToken: func(m map[string]any) { m["expires_in"] = 0 }})
		client := newClient(t, srv, nil)
		first := mustToken(t, client)
		if _, err := client.Token(t.Context()); err == nil {
			t.Error("a second token at once")
		}
		time.Sleep(time.Second)
		if mustToken(t, client) == first {
			t.Error("the expired token came again")
		}
		if n := srv.TokenRequests(); n != 2 {
			t.Errorf("%d token requests, want 2", n)
		}
	})
}

// TestRefusedRenewalIsTriedAgainWhileTheTokenLives: the provider's back-off is
// no reason to stop asking until the token has expired.
func TestRefusedRenewalIsTriedAgainWhileTheTokenLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		secret, err := provider.NewClientSecretPost(secretsource.Static([]byte(testSecret)), &provider.SecretOptions{
			Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer secret.Close()
		client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.Provider = secret })
		first := mustToken(t, client)
		time.Sleep(250 * time.Second)
		srv.SetSecrets(testClient, "another")
		mustToken(t, client)
		synctest.Wait()
		srv.SetSecrets(testClient, testSecret)
		for time.Since(first.Received) < 290*time.Second {
			mustToken(t, client)
			time.Sleep(time.Second)
		}
		if got := mustToken(t, client); got == first {
			t.Error("not renewed, although the server takes the secret again")
		}
	})
}

func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		client := newClient(t, srv, nil)
		source, err := client.TokenSource(nil)
		if err != nil {
			t.Fatal(err)
		}
		first := mustToken(t, client)
		if !source.Drop(first) {
			t.Fatal("the cached token was not dropped")
		}
		second := mustToken(t, client)
		if second == first {
			t.Fatal("the dropped token came again")
		}
		if !source.Drop(first) {
			t.Error("a token dropped before: the next read has another, and Drop denies it")
		}
		if got := mustToken(t, client); got != second {
			t.Error("dropping an old token dropped the new one")
		}
		if source.Drop(second) {
			t.Error("a second forced renewal within 30 s")
		}
		time.Sleep(30 * time.Second)
		if !source.Drop(second) {
			t.Error("no forced renewal after 30 s")
		}
	})
}

func TestSourcesAreCachedByScopesAndParameters(t *testing.T) {
	srv := newServer(t, nil)
	client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.Scopes = []string{"system/Patient.rs", "system/Observation.rs"} })
	own, _ := client.TokenSource(nil)
	source := func(scopes []string, params map[string][]string) *smartauth.TokenSource {
		s, err := client.TokenSource(&smartauth.TokenOptions{Scopes: scopes, Params: params})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if source([]string{"system/Observation.rs", "system/Patient.rs"}, nil) != own {
		t.Error("the order of scopes makes another source")
	}
	narrow := source([]string{"system/Patient.rs"}, nil)
	if narrow == own || narrow != source([]string{"system/Patient.rs"}, nil) {
		t.Error("other scopes: want one other source")
	}
	tenant := source([]string{"system/Patient.rs"}, map[string][]string{"tenant": {"a"}})
	if tenant == narrow || tenant != source([]string{"system/Patient.rs"}, map[string][]string{"tenant": {"a"}}) {
		t.Error("other parameters: want one other source")
	}
	if _, err := client.TokenSource(&smartauth.TokenOptions{Params: map[string][]string{"client_secret": {"x"}}}); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("a reserved parameter: err = %v", err)
	}
	token, err := tenant.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(token.Scopes) != 1 || token.Scopes[0] != "system/Patient.rs" {
		t.Errorf("scopes = %v", token.Scopes)
	}
	last := srv.RequestsTo(smartauthtest.EndpointToken)[0]
	if last.Form.Get("tenant") != "a" || last.Form.Get("scope") != "system/Patient.rs" {
		t.Errorf("form = %v", last.Form)
	}
}

func TestCloseEndsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Delay: time.Hour})
		client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.Timeout = 2 * time.Hour })
		done := make(chan error)
		for range 10 {
			go func() {
				_, err := client.Token(t.Context())
				done <- err
			}()
		}
		synctest.Wait()
		client.Close()
		client.Close()
		for range 10 {
			if err := <-done; !errors.Is(err, smartcred.ErrClosed) {
				t.Errorf("err = %v, want ErrClosed", err)
			}
		}
		if _, err := client.Token(t.Context()); !errors.Is(err, smartcred.ErrClosed) {
			t.Errorf("after Close: err = %v", err)
		}
	})
}

func TestPreTokenRequest(t *testing.T) {
	srv := newServer(t, nil)
	var asked atomic.Int32
	own, err := smartauth.ParseToken([]byte(`{"access_token":"from-the-hook","token_type":"Bearer","expires_in":3600}`), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(t, srv, func(cfg *smartauth.Config) {
		cfg.PreTokenRequest = func(_ context.Context, req smartauth.TokenRequest) (*smartauth.Token, error) {
			if req.ClientID != testClient || req.Server != srv.URL || len(req.Scopes) != 1 {
				t.Errorf("hook got %+v", req)
			}
			if asked.Add(1) == 1 {
				return own, nil
			}
			return nil, nil
		}
	})
	if got := mustToken(t, client); got != own || srv.TokenRequests() != 0 {
		t.Errorf("the hook's token was not used; %d requests", srv.TokenRequests())
	}
	source, _ := client.TokenSource(nil)
	source.Drop(own)
	if got := mustToken(t, client); got == own || srv.TokenRequests() != 1 {
		t.Error("a hook without a token must leave the request to the client")
	}
}

func TestGrantIsSentWithTheAdditionalParameters(t *testing.T) {
	srv := newServer(t, nil)
	client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.TokenParams = map[string][]string{"vendor": {"x y", "z"}} })
	_, err := client.Token(t.Context())
	if !errors.Is(err, provider.ErrInvalidRequest) { // the server refuses parameters given twice
		t.Fatalf("err = %v", err)
	}
	form := srv.RequestsTo(smartauthtest.EndpointToken)[0]
	if form.Form.Get("vendor") != "x y" || form.Form.Get("grant_type") != "client_credentials" {
		t.Errorf("form = %v", form.Form)
	}
}

func mustToken(t *testing.T, client *smartauth.Client) *smartauth.Token {
	t.Helper()
	token, err := client.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}
