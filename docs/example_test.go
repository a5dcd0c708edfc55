package docs_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/vaultkv"
	"github.com/smartcred/smartcred/plugins/vaulttransit"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// versions are the keys of a backend, newest first.
type versions []*signer.CryptoSigner

func (v versions) Keys(ctx context.Context) (keys []signer.Key, err error) {
	for _, s := range v {
		one, err := s.Keys(ctx)
		if err != nil {
			return nil, err
		}
		keys = append(keys, one...)
	}
	return keys, nil
}

func (v versions) Sign(ctx context.Context, key signer.Key, input []byte) ([]byte, error) {
	for _, s := range v {
		if one, err := s.Keys(ctx); err == nil && one[0].Version == key.Version {
			return s.Sign(ctx, key, input)
		}
	}
	return nil, smartcred.ErrNotFound
}

// Several crypto.Signers make a signer with versions. The newer one signs from
// its NotBefore on.
func Example_severalVersions() {
	created := time.Now()
	older, err := signer.FromCryptoSigner(newKey(), &signer.CryptoSignerOptions{Version: "1"})
	if err != nil {
		log.Fatal(err)
	}
	newer, err := signer.FromCryptoSigner(newKey(), &signer.CryptoSignerOptions{
		Version: "2", NotBefore: created.Add(24 * time.Hour),
	})
	if err != nil {
		log.Fatal(err)
	}
	keys, err := signer.NewKeySet(versions{newer, older}, &signer.KeySetOptions{Observer: smartcred.Discard})
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	key, err := keys.Signing(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("version", key.Version, "signs")
	// Output: version 1 signs
}

// What a health endpoint may show of a rotation, here before the first request.
func Example_status() {
	p, err := provider.NewClientSecretBasic(secretsource.Static([]byte("secret")), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	ctx, clientID, baseURL := context.Background(), "my-app", "https://fhir.example.com/r4"

	s := p.Status(ctx, clientID, baseURL)
	fmt.Println("in force:", s.InForce.Version, s.InForce.KeyID, "adopted:", s.Adopted)
	fmt.Println("back-off until:", s.BackoffUntil, "because:", s.LastError)
	fmt.Println("refusals left for what never worked:", s.HourlyBudget, "this hour,", s.DailyBudget, "today")
	fmt.Println("source or signer:", s.Degraded)
	// Output:
	// in force:   adopted: false
	// back-off until: 0001-01-01 00:00:00 +0000 UTC because: <nil>
	// refusals left for what never worked: 12 this hour, 40 today
	// source or signer: <nil>
}

func newKey() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	return key
}

// A client of the program's own, logged in as the program likes.
func Example_vault() {
	client, err := api.NewClient(nil)
	if err != nil {
		log.Fatal(err)
	}
	keys, err := vaulttransit.New(client, "smart", &vaulttransit.Options{Mount: "transit", PublishFor: 24 * time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	secret, err := vaultkv.New(client, "smart", "client_secret", &vaultkv.Options{Mount: "secret"})
	if err != nil {
		log.Fatal(err)
	}
	defer secret.Close()
}
