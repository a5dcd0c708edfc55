package secretrotator_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth"
)

// 100 callers ask for tokens all the time while the function rotates three times,
// and the server ends the old secret once consumers have looked the new one up:
// none of them fails.
func TestRotationUnder100Callers(t *testing.T) {
	w := newWorld(t, "client_secret", `{"client_secret": "`+firstValue+`"}`)
	service := newHookService(t, w.ehr)
	r := w.rotator(w.hook(service, nil))
	source, err := awssecretsmanager.New(w.sdk(), secretName, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The minute that consumers keep a secret for, and overlaps are longer than,
	// is 20 ms here.
	cache := secretsource.NewCache(secretsource.Field(source, "client_secret"), &secretsource.CacheOptions{TTL: 20 * time.Millisecond, Observer: smartcred.Discard})
	proof, err := provider.NewClientSecretBasic(cache, &provider.SecretOptions{Observer: smartcred.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer proof.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls, failed atomic.Int64
	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if err := call(ctx, w, proof); err != nil && ctx.Err() == nil {
					failed.Add(1)
					t.Errorf("a call failed: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	more := func(n int64) {
		for target := calls.Load() + n; calls.Load() < target && failed.Load() == 0; {
			_ = call(ctx, w, proof)
		}
	}
	more(300)
	for range 3 {
		version := w.begin()
		for _, step := range secretrotator.Steps {
			if err := w.invoke(r, step, version); err != nil {
				t.Error(err)
			}
			more(200)
		}
		for cache.Status(secretsource.Current).Version != version && failed.Load() == 0 {
			more(1)
		}
		w.ehr.SetSecrets(clientID, w.secret(awsfake.Current))
		more(300)
	}
	cancel()
	callers.Wait()
	t.Logf("%d calls, %d failed, %d rotations", calls.Load(), failed.Load(), service.requests())
}

// call gets a token that no other caller's request was for.
func call(ctx context.Context, w *world, proof provider.Provider) error {
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: w.ehr.URL, TokenEndpoint: w.ehr.TokenURL, ClientID: clientID, Scopes: []string{scope},
		Provider: proof, AllowInsecureLoopback: true, Observer: smartcred.Discard,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Token(ctx)
	return err
}
