package awstest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awskms"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const (
	clientID    = "backend-app"
	redirectURL = "https://app.example.org/callback"
	callers     = 100
	refresh     = 100 * time.Millisecond // of key lists and secrets: rotations are short here
)

func newFake(t *testing.T) *awsfake.Server {
	t.Helper()
	s := awsfake.New(nil)
	t.Cleanup(s.Close)
	return s
}

func credentialsOf() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, "")
}

// newSigner signs with the key of an alias.
func newSigner(t *testing.T, fake *awsfake.Server, alias string) *awskms.Signer {
	t.Helper()
	s, err := awskms.New(kms.New(kms.Options{Region: awsfake.Region, BaseEndpoint: &fake.URL, Credentials: credentialsOf()}), alias, &awskms.Options{Observer: smartcred.Discard})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newKeyProvider authenticates with the key of an alias.
func newKeyProvider(t *testing.T, fake *awsfake.Server, alias string) *provider.PrivateKeyJWT {
	t.Helper()
	p, err := provider.NewPrivateKeyJWT(newSigner(t, fake, alias), &provider.PrivateKeyJWTOptions{
		KeySet:   &signer.KeySetOptions{Refresh: refresh, Observer: smartcred.Discard},
		Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// newSecretProvider authenticates with a secret in Secrets Manager.
func newSecretProvider(t *testing.T, fake *awsfake.Server, name string) provider.Provider {
	t.Helper()
	src, err := awssecretsmanager.New(secretsmanager.New(secretsmanager.Options{Region: awsfake.Region, BaseEndpoint: &fake.URL, Credentials: credentialsOf()}), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := provider.NewClientSecretPost(secretsource.Field(src, "client_secret"), &provider.SecretOptions{
		Cache:    &secretsource.CacheOptions{TTL: refresh, Observer: smartcred.Discard},
		Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func newClient(t *testing.T, srv *smartauthtest.Server, p provider.Provider) *smartauth.Client {
	t.Helper()
	network := &http.Transport{MaxIdleConnsPerHost: callers + 10}
	t.Cleanup(network.CloseIdleConnections)
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: srv.URL, ClientID: clientID, Provider: p, Scopes: []string{"system/*.rs"}, RedirectURL: redirectURL,
		AllowInsecureLoopback: true, HTTPClient: &http.Client{Transport: network}, Observer: smartcred.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// A load is callers that get a token each and read with it, without pause.
type load struct {
	stop            context.CancelFunc
	wg              sync.WaitGroup
	begun           []atomic.Int64
	calls, failures atomic.Int64
}

func startLoad(t *testing.T, srv *smartauthtest.Server, client *smartauth.Client) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, begun: make([]atomic.Int64, callers)}
	t.Cleanup(func() { stop(); l.wg.Wait() })
	for i := range callers {
		l.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.begun[i].Add(1)
				l.calls.Add(1)
				if err := read(context.WithoutCancel(ctx), srv, client, fmt.Sprintf("%d-%d", i, n)); err != nil && l.failures.Add(1) <= 5 {
					t.Errorf("a call failed: %v", err)
				}
			}
		})
	}
	return l
}

// read makes a token request of its own and reads with the token.
func read(ctx context.Context, srv *smartauthtest.Server, client *smartauth.Client, name string) error {
	source, err := client.TokenSource(&smartauth.TokenOptions{Params: url.Values{"call": {name}}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/Patient/pat-1", nil)
	if err != nil {
		return err
	}
	resp, err := client.Transport(source).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the FHIR server answered %s", resp.Status)
	}
	return nil
}

// await waits until a credential is in force and no call that began before is under way.
func (l *load) await(t *testing.T, srv *smartauthtest.Server, p provider.Rotator, version string) {
	t.Helper()
	wait := func(holds func() bool) {
		for !holds() {
			if l.failures.Load() > 0 || t.Context().Err() != nil {
				t.FailNow()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	wait(func() bool { return p.Status(t.Context(), clientID, srv.URL).InForce.Version == version })
	seen := make([]int64, len(l.begun))
	for i := range seen {
		seen[i] = l.begun[i].Load()
	}
	for i := range seen {
		wait(func() bool { return l.begun[i].Load() >= seen[i]+2 })
	}
}

func (l *load) finish(t *testing.T) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	t.Logf("%d calls by %d callers, each with a token request of its own: %d failed", l.calls.Load(), callers, l.failures.Load())
}

func newServer(t *testing.T) *smartauthtest.Server {
	return smartauthtest.NewServer(t, &smartauthtest.Options{MaxRequests: -1})
}

// register tells the server which keys it takes, as somebody does by hand.
func register(t *testing.T, srv *smartauthtest.Server, fake *awsfake.Server, arns ...string) {
	t.Helper()
	var keys []signer.Key
	for _, arn := range arns {
		s := newSigner(t, fake, arn)
		listed, err := s.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		keys = append(keys, listed...)
	}
	set, err := signer.PublicJWKSet(keys)
	if err != nil {
		t.Fatal(err)
	}
	srv.SetJWKS(clientID, set)
}

// The alias is moved while 100 callers authenticate without pause: the server has
// the new key before, and the old one until nobody signs with it any more.
func TestAliasIsMovedUnderLoad(t *testing.T) {
	for alg, spec := range map[signer.Algorithm]string{signer.ES384: "ECC_NIST_P384", signer.RS384: "RSA_2048"} {
		t.Run(string(alg), func(t *testing.T) {
			fake, srv := newFake(t), newServer(t)
			old := fake.CreateKey(awsfake.Key{Spec: spec})
			fake.SetAlias("alias/smart", old)
			srv.AddClient(smartauthtest.Client{ID: clientID, JWKS: map[string]any{"keys": []any{}}})
			register(t, srv, fake, old)
			p := newKeyProvider(t, fake, "alias/smart")
			l := startLoad(t, srv, newClient(t, srv, p))
			l.await(t, srv, p, old)
			for range 2 {
				fresh := fake.CreateKey(awsfake.Key{Spec: spec})
				register(t, srv, fake, old, fresh)
				// AWS spreads the rights after the alias: for a while it can't sign.
				allow := fake.Deny("Sign", fresh)
				fake.SetAlias("alias/smart", fresh)
				time.Sleep(5 * refresh)
				allow()
				l.await(t, srv, p, fresh)
				fake.SetKeyState(old, awsfake.Disabled)
				register(t, srv, fake, fresh)
				old = fresh
			}
			l.finish(t)
		})
	}
}

// The secret is rotated by its stages while 100 callers authenticate without pause.
func TestSecretIsRotatedUnderLoad(t *testing.T) {
	fake, srv := newFake(t), newServer(t)
	value := func(i int) string { return fmt.Sprintf("secret-%d", i) }
	object := func(i int) string { return fmt.Sprintf(`{"client_secret":%q}`, value(i)) }
	fake.CreateSecret("smart/app", object(0))
	srv.AddClient(smartauthtest.Client{ID: clientID, Secrets: []string{value(0)}})
	p := newSecretProvider(t, fake, "smart/app")
	rotator := p.(provider.Rotator)
	l := startLoad(t, srv, newClient(t, srv, p))
	l.await(t, srv, rotator, fake.Version("smart/app", awsfake.Current))
	for i := 1; i <= 10; i++ {
		pending := fake.StageSecret("smart/app", object(i), awsfake.Pending)
		srv.SetSecrets(clientID, value(i-1), value(i))
		time.Sleep(2 * refresh)
		fake.MoveStage("smart/app", awsfake.Current, pending)
		l.await(t, srv, rotator, pending)
		srv.SetSecrets(clientID, value(i))
	}
	l.finish(t)
}

// Both grants, with a key of either kind and with a secret.
func TestGrants(t *testing.T) {
	for name, set := range map[string]func(*testing.T, *awsfake.Server, *smartauthtest.Server) provider.Provider{
		"ES384": withKey("ECC_NIST_P384"), "RS384": withKey("RSA_2048"), "RS384, 4096 bits": withKey("RSA_4096"),
		"client secret": func(t *testing.T, fake *awsfake.Server, srv *smartauthtest.Server) provider.Provider {
			fake.CreateSecret("smart/app", `{"client_secret":"s3cret"}`)
			srv.AddClient(smartauthtest.Client{ID: clientID, Secrets: []string{"s3cret"}, RedirectURIs: []string{redirectURL}})
			return newSecretProvider(t, fake, "smart/app")
		},
	} {
		t.Run(name, func(t *testing.T) {
			fake, srv := newFake(t), smartauthtest.NewServer(t, nil)
			client := newClient(t, srv, set(t, fake, srv))
			if err := read(t.Context(), srv, client, "client_credentials"); err != nil {
				t.Error(err)
			}
			launch, err := client.StartLaunch(t.Context(), &smartauth.LaunchOptions{Scopes: []string{"launch/patient", "patient/*.rs", "offline_access"}})
			if err != nil {
				t.Fatal(err)
			}
			back, err := srv.Authorize(t.Context(), launch.URL())
			if err != nil {
				t.Fatal(err)
			}
			token, err := client.Exchange(t.Context(), launch, back.Query())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Refresh(t.Context(), token, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func withKey(spec string) func(*testing.T, *awsfake.Server, *smartauthtest.Server) provider.Provider {
	return func(t *testing.T, fake *awsfake.Server, srv *smartauthtest.Server) provider.Provider {
		arn := fake.CreateKey(awsfake.Key{Spec: spec})
		fake.SetAlias("alias/smart", arn)
		srv.AddClient(smartauthtest.Client{ID: clientID, JWKS: map[string]any{"keys": []any{}}, RedirectURIs: []string{redirectURL}})
		register(t, srv, fake, arn)
		return newKeyProvider(t, fake, "alias/smart")
	}
}
