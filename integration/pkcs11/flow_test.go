//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// A token by client_credentials, signed in the HSM, taken by a strict server.
func TestEndToEnd(t *testing.T) {
	for kind, want := range map[string]signer.Algorithm{p384: signer.ES384, rsa2048: signer.RS384} {
		t.Run(string(want), func(t *testing.T) {
			h := newHSM(t)
			h.keygen(t, kind, "smart-2026", "a1")
			keys, err := signer.NewKeySet(open(t, uri(softHSM, "object=smart-2026"), nil), &signer.KeySetOptions{RequireNonExportable: true, Observer: smartcred.Discard})
			if err != nil {
				t.Fatal(err)
			}
			published, err := keys.Published(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := published[0]; len(published) != 1 || got.Algorithm != want || got.Version != "a1" || got.Custody.Level != signer.CustodyGenerated {
				t.Errorf("published %+v", published)
			}
			client, server := login(t, keys)
			if _, err := client.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, r := range server.Requests() {
				if r.Reason != "" {
					t.Errorf("the server refused: %s", r.Reason)
				}
			}
		})
	}
}

// login returns a client whose keys a server knows.
func login(t *testing.T, keys *signer.KeySet) (*smartauth.Client, *smartauthtest.Server) {
	t.Helper()
	published, err := keys.Published(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set, err := signer.PublicJWKSet(published)
	if err != nil {
		t.Fatal(err)
	}
	server := smartauthtest.NewServer(t, nil)
	server.AddClient(smartauthtest.Client{ID: "app", JWKS: set, Scopes: []string{"system/*.rs"}})
	proof, err := provider.NewPrivateKeyJWT(keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: server.URL, ClientID: "app", Scopes: []string{"system/*.rs"}, Provider: proof,
		HTTPClient: server.Client(), AllowInsecureLoopback: true, Observer: smartcred.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client, server
}

// Algorithms that are asked for by name.
func TestAlgorithms(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, rsa2048, "r", "01")
	h.keygen(t, "EC:prime256v1", "e", "02")
	for label, algorithms := range map[string][]signer.Algorithm{
		"r": {signer.RS256, signer.RS384, signer.RS512, signer.PS384}, "e": {signer.ES256},
	} {
		for _, alg := range algorithms {
			t.Run(string(alg), func(t *testing.T) {
				s := open(t, uri(softHSM, "object="+label), &signer.OpenOptions{Algorithm: alg})
				if err := signs(t.Context(), s); err != nil {
					t.Error(err)
				}
			})
		}
	}
	s := open(t, uri(softHSM, "object=e"), nil)
	if _, err := s.Keys(t.Context()); !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
		t.Errorf("P-256 without being asked for: %v", err)
	}
}

// signs makes a signature by the newest key and verifies it.
func signs(ctx context.Context, s signer.Signer) error {
	keys, err := s.Keys(ctx)
	if err != nil {
		return err
	}
	sig, err := s.Sign(ctx, keys[0], []byte("input"))
	if err != nil {
		return err
	}
	return signer.Verify(keys[0], []byte("input"), sig)
}

// A cold start of 100 callers is one login, and so are two Signers.
func TestOneLogin(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, p384, "k", "01")
	first, second := open(t, uri(shimHSM, "object=k"), nil), open(t, uri(shimHSM, "object=k"), nil)
	var callers sync.WaitGroup
	for i := range 100 {
		callers.Go(func() {
			s := first
			if i%2 == 0 {
				s = second
			}
			if err := signs(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if got := h.logins(t); got != 1 {
		t.Errorf("%d logins, want 1", got)
	}
}

// Sessions, handles and the login that are lost are made anew, and callers see
// nothing of it.
func TestLostSessions(t *testing.T) {
	for _, fault := range []string{"drop", "logout"} {
		t.Run(fault, func(t *testing.T) {
			h := newHSM(t)
			h.keygen(t, p384, "k", "01")
			s := open(t, uri(shimHSM, "object=k"), nil)
			for round := range 5 {
				if err := signs(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				h.on(t, fault)
				var callers sync.WaitGroup
				for range 100 {
					callers.Go(func() {
						if err := signs(t.Context(), s); err != nil {
							t.Error(err)
						}
					})
				}
				callers.Wait()
				if got, want := h.logins(t), round+2; got > want {
					t.Errorf("%d logins after %d losses, want at most %d", got, round+1, want)
				}
			}
		})
	}
}

// The token is deleted and made again, with another key of the same name, while
// callers go on: their errors are typed and come soon, and then it works again.
func TestTokenMadeAgainUnderLoad(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, p384, "k", "01")
	s := open(t, uri(shimHSM, "object=k"), nil)
	if err := signs(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	before, _ := s.Keys(t.Context())

	var slowest, failures, successes atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				err := signs(context.WithoutCancel(ctx), s)
				took := int64(time.Since(start))
				for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
				}
				switch {
				case err == nil:
					successes.Add(1)
				case errors.Is(err, smartcred.ErrUnavailable), errors.Is(err, smartcred.ErrNotFound):
					failures.Add(1)
					time.Sleep(time.Millisecond)
				default:
					t.Errorf("an error of no type: %v", err)
					return
				}
			}
		})
	}
	failed := func() bool { return failures.Load() > 0 }
	h.removeToken(t)
	eventually(t, "no call fails after the token is gone", failed)
	h.initToken(t, tokenLabel)
	h.keygen(t, p384, "k", "01")
	remade := time.Now()
	at := successes.Load()
	eventually(t, "no call succeeds after the token is back", func() bool { return successes.Load() > at })
	t.Logf("signing %s after the token was back; %d calls failed, the slowest took %s", time.Since(remade).Round(time.Millisecond), failures.Load(), time.Duration(slowest.Load()).Round(time.Millisecond))
	cancel()
	callers.Wait()
	if limit := 10 * time.Second; time.Duration(slowest.Load()) > limit {
		t.Errorf("a call took %s, want under %s", time.Duration(slowest.Load()), limit)
	}
	if _, err := s.Sign(t.Context(), before[0], []byte("x")); !errors.Is(err, smartcred.ErrNotFound) {
		t.Errorf("the key that was there before: %v, want ErrNotFound", err)
	}
	// The first login, one after the token came back, and few for what was in flight between.
	if got := h.logins(t); got > 4 {
		t.Errorf("%d logins", got)
	}
}

func eventually(t *testing.T, problem string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal(problem)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A Signer over one token is not bothered by another that is gone.
func TestTwoTokens(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, p384, "k", "01")
	h.initToken(t, "other")
	good := open(t, uri(softHSM, "object=k"), nil)
	bad := open(t, strings.Replace(uri(softHSM, "object=k"), "token="+tokenLabel, "token=nosuch", 1), nil)
	for i := range 5 {
		if err := signs(t.Context(), good); err != nil {
			t.Fatal(err)
		}
		err := signs(t.Context(), bad)
		if !errors.Is(err, smartcred.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), `token "smart"`) {
			t.Fatalf("%d: %v, want ErrUnavailable that names the tokens there are", i, err)
		}
	}
	either := open(t, strings.Replace(uri(softHSM, "object=k"), "token="+tokenLabel+";", "", 1), nil)
	if err := signs(t.Context(), either); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("two tokens match: %v, want ErrInvalidConfig", err)
	}
}

// Close returns although a call hangs in the library.
func TestCloseWhileACallHangs(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, p384, "k", "01")
	s, err := signer.Open(t.Context(), uri(shimHSM, "object=k"), nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	resume := h.on(t, "stall")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Sign(ctx, keys[0], []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Sign: %v", err)
	}
	start := time.Now()
	err = closeSigner(s)
	if took := time.Since(start); !errors.Is(err, smartcred.ErrUnavailable) || took > 8*time.Second {
		t.Errorf("Close after %s: %v", took, err)
	}
	resume()
	if again := closeSigner(s); again != err {
		t.Errorf("the second Close: %v", again)
	}
	other := open(t, uri(shimHSM, "object=k"), nil)
	eventually(t, "the next Signer does not work", func() bool { return signs(t.Context(), other) == nil })
}

// Another binding in the process may have initialized the library, and end it: here
// the same SoftHSM behind the shim, which is another library to smartcred.
func TestLibraryInitializedElsewhere(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, p384, "k", "01")
	owner, err := signer.Open(t.Context(), uri(softHSM, "object=k"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := signs(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	guest := open(t, uri(shimHSM, "object=k"), nil)
	if err := signs(t.Context(), guest); err != nil {
		t.Errorf("beside the one that initialized it: %v", err)
	}
	if err := closeSigner(owner); err != nil {
		t.Fatal(err)
	}
	if err := signs(t.Context(), guest); err != nil {
		t.Errorf("after that one ended it: %v", err)
	}
}

// Two private keys with one CKA_ID are still two keys.
func TestKeysWithOneID(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, rsa2048, "now", "01")
	h.keygen(t, rsa2048, "old", "01")
	s := open(t, uri(softHSM, "object=now", "previous=old"), nil)
	keys, err := s.Keys(t.Context())
	if err != nil || len(keys) != 2 || keys[0].Version == keys[1].Version {
		t.Fatalf("%+v, %v", keys, err)
	}
	for _, k := range keys {
		sig, err := s.Sign(t.Context(), k, []byte("input"))
		if err == nil {
			err = signer.Verify(k, []byte("input"), sig)
		}
		if err != nil {
			t.Errorf("version %s: %v", k.Version, err)
		}
	}
}
