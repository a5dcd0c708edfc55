package vault

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// A faultBed is a server of the test's own, a proxy and a front before it, and over
// those a signer and a source, plain and as programs have them.
type faultBed struct {
	vault *vaulttest.Server
	proxy *vaulttest.Proxy
	front *vaulttest.Front

	transit, kv string // mounts
	keys        signer.Signer
	source      secretsource.Source
	keySet      *signer.KeySet
	cache       *secretsource.Cache
	key         signer.Key
}

// through says what the bed's clients talk to.
type through int

const (
	direct through = iota
	throughProxy
	throughFront
)

func newFaultBed(t *testing.T, s *vaulttest.Server, by through) *faultBed {
	t.Helper()
	t.Setenv("VAULT_CACERT", s.CACert)
	t.Setenv("VAULT_CLIENT_TIMEOUT", "3s")
	b := &faultBed{vault: s, transit: transitKey(t, s, "ecdsa-p384"), kv: s.KV(t, 2)}
	putSecret(t, s, b.kv, 2, "secret-0")
	options := map[string]string{"address": s.Address, "token_file": tokenFile(t, s.Token(t, policy(transitPolicy, b.transit)+policy(kvPolicy, b.kv)))}
	switch by {
	case throughProxy:
		b.proxy = vaulttest.NewProxy(t, s)
		options["address"] = b.proxy.Address
	case throughFront:
		b.front = vaulttest.NewFront(t, s)
		options["address"] = b.front.Address
	}
	keysURI := "vault-transit://" + b.transit + "/smart" + query(options)
	sourceURI := "vault-kv://" + b.kv + "/team/smart" + query(options) + "#client_secret"
	b.keys, b.source = openSigner(t, keysURI, nil), openSource(t, sourceURI)
	var err error
	if b.keySet, err = signer.NewKeySet(openSigner(t, keysURI, nil), &signer.KeySetOptions{Refresh: refresh, Observer: smartcred.Discard}); err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, b.keySet)
	b.cache = secretsource.NewCache(openSource(t, sourceURI), &secretsource.CacheOptions{TTL: refresh, Observer: smartcred.Discard})
	closeAtEnd(t, b.cache)
	b.key = firstKey(t, b.keys)
	b.healthy(t)
	return b
}

// healthy waits until everything works. Nothing is opened anew.
func (b *faultBed) healthy(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		return errors.Join(signOnce(t, b.keys, b.key), b.signBySet(t.Context()), b.lookUp(t.Context()), b.lookUpCached(t.Context()))
	})
}

func (b *faultBed) signBySet(ctx context.Context) error {
	key, err := b.keySet.Signing(ctx, nil)
	if err == nil {
		_, err = b.keySet.Sign(ctx, key, []byte("header.claims"))
	}
	return err
}

func (b *faultBed) lookUp(ctx context.Context) error {
	_, err := b.source.Lookup(ctx, secretsource.Current)
	return err
}

func (b *faultBed) lookUpCached(ctx context.Context) error {
	_, err := b.cache.Lookup(ctx, secretsource.Current)
	return err
}

// answersSoon is ten times the client's own bound, for machines that are busy.
const answersSoon = 30 * time.Second

// fails checks what a fault looks like: the error's type, in bounded time, and that
// the cache serves on where that is an outage.
func (b *faultBed) fails(t *testing.T, want error) {
	t.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	for name, call := range map[string]func(context.Context) error{
		"list keys": func(ctx context.Context) error { _, err := b.keys.Keys(ctx); return err },
		"sign": func(ctx context.Context) error {
			_, err := b.keys.Sign(ctx, b.key, []byte("header.claims"))
			return err
		},
		"sign by set":      b.signBySet,
		"look up":          b.lookUp,
		"look up previous": func(ctx context.Context) error { _, err := b.source.Lookup(ctx, secretsource.Previous); return err },
	} {
		wg.Go(func() {
			if err := call(t.Context()); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > answersSoon {
		t.Errorf("the answers took %s", took)
	}
	if err := b.lookUpCached(t.Context()); want == smartcred.ErrUnavailable && err != nil {
		t.Errorf("the cache does not serve on: %v", err)
	}
}

// Faults of the server itself.
func TestServerFaults(t *testing.T) {
	s := vaulttest.Start(t)
	b := newFaultBed(t, s, direct)
	for _, fault := range []struct {
		name           string
		strike, repair func(testing.TB)
		says           string
	}{
		{"sealed", s.Seal, s.Unseal, "sealed"},
		{"stopped", s.Stop, s.Restart, "connection refused"},
		{"restarted sealed", func(t testing.TB) { s.Stop(t); s.RestartSealed(t) }, s.Unseal, "sealed"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			fault.strike(t)
			b.fails(t, smartcred.ErrUnavailable)
			saying(t, b.lookUp(t.Context()), smartcred.ErrUnavailable, fault.says)
			fault.repair(t)
			b.healthy(t)
		})
	}
}

// Faults of the way there.
func TestNetworkFaults(t *testing.T) {
	b := newFaultBed(t, vaulttest.Shared(t), throughProxy)
	for name, strike := range map[string]func(){
		"unreachable":                  b.proxy.Stall,
		"connection refused":           b.proxy.Refuse,
		"cut before the handshake":     func() { b.proxy.Cut(0) },
		"cut in the middle of answers": func() { b.proxy.Cut(1500) },
	} {
		t.Run(name, func(t *testing.T) {
			strike()
			b.fails(t, smartcred.ErrUnavailable)
			b.proxy.Pass(t)
			b.healthy(t)
		})
	}
}

// A caller in a hurry is back at its deadline.
func TestDeadlineWhileVaultIsUnreachable(t *testing.T) {
	b := newFaultBed(t, vaulttest.Shared(t), throughProxy)
	b.proxy.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := b.keys.Sign(ctx, b.key, []byte("header.claims")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline's error", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("back after %s", took)
	}
	b.proxy.Pass(t)
	b.healthy(t)
}

// Faults of what answers in Vault's place.
func TestAnswerFaults(t *testing.T) {
	b := newFaultBed(t, vaulttest.Shared(t), throughFront)
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>please log in to the hotel's network</html>"))
	})
	for name, strike := range map[string]func(){
		"garbage":           func() { b.front.Garble(http.StatusOK) },
		"garbage, 500":      func() { b.front.Garble(http.StatusInternalServerError) },
		"garbage, 502":      func() { b.front.Garble(http.StatusBadGateway) },
		"a page":            func() { b.front.Answer(page) },
		"answers cut":       b.front.CutAnswers,
		"bad gateway":       func() { b.front.AnswerStatus(http.StatusBadGateway) },
		"stale replica":     func() { b.front.AnswerStatus(http.StatusPreconditionFailed) },
		"standby, 473":      func() { b.front.AnswerStatus(473) },
		"too many requests": func() { b.front.AnswerStatus(http.StatusTooManyRequests, "Retry-After", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			strike()
			b.fails(t, smartcred.ErrUnavailable)
			b.front.Pass()
			b.healthy(t)
		})
	}
}
