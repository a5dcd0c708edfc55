package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"

	_ "github.com/smartcred/smartcred/plugins/vaulttransit"
)

const transitMount = "transit"

// vaultAssertions compares a whole authentication by private_key_jwt, with a key in
// Vault's Transit and a send that does nothing, with the bare call of Vault's own
// client that signs as many bytes; and counts requests.
func vaultAssertions() (results []result, err error) {
	ctx := context.Background()
	server, err := vaulttest.Launch(ctx)
	if err != nil {
		return nil, &unmeasuredError{"no Vault can be had", err}
	}
	defer func() { err = errors.Join(err, server.Close(ctx)) }()
	root, err := server.NewClient(server.RootToken)
	if err != nil {
		return nil, err
	}
	if err := root.Sys().MountWithContext(ctx, transitMount, &api.MountInput{Type: "transit"}); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "smartcred-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(server.RootToken), 0o600); err != nil {
		return nil, err
	}
	if err := os.Setenv(api.EnvVaultCACert, server.CACert); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		alg     signer.Algorithm
		keyType string
	}{
		{signer.ES384, "ecdsa-p384"},
		{signer.RS384, "rsa-2048"},
	} {
		b := &vaultBench{root: root, address: server.Address, key: c.keyType, alg: c.alg, token: token}
		if _, err := root.Logical().WriteWithContext(ctx, transitMount+"/keys/"+b.key, map[string]any{"type": c.keyType}); err != nil {
			return nil, err
		}
		times, err := b.times(ctx)
		if err != nil {
			return nil, err
		}
		requests, err := b.requests(ctx)
		if err != nil {
			return nil, err
		}
		results = append(results,
			against(string(c.alg)+" smartcred : bare api call", times[0], times[1], 1.1),
			result{what: string(c.alg) + " requests for an assertion", value: requests, bound: 1})
	}
	return results, nil
}

// A vaultBench is a Transit key.
type vaultBench struct {
	root    *api.Client
	address string
	key     string
	alg     signer.Algorithm
	token   string // path
}

var vaultRequest = provider.Request{ClientID: clientID, Server: fhirBase, URL: tokenURL, GrantType: "client_credentials"}

// open returns a provider over the key at an address.
func (b *vaultBench) open(ctx context.Context, address string) (*provider.PrivateKeyJWT, error) {
	uri := "vault-transit://" + transitMount + "/" + b.key + "?" + url.Values{"address": {address}, "token_file": {b.token}}.Encode()
	keys, err := signer.Open(ctx, uri, &signer.OpenOptions{OpenOptions: secretsource.OpenOptions{AllowInsecureLoopback: true, Observer: smartcred.Discard}})
	if err != nil {
		return nil, err
	}
	return jwtProvider(keys)
}

func (b *vaultBench) times(ctx context.Context) ([][]float64, error) {
	p, err := b.open(ctx, b.address)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	input, _, err := signingInput(ctx, p, vaultRequest)
	if err != nil {
		return nil, err
	}
	bare, err := b.bareClient()
	if err != nil {
		return nil, err
	}
	path := transitMount + "/sign/" + b.key
	return race(1500,
		contender{"smartcred", func(n int) {
			for range n {
				must(authenticate(ctx, p))
			}
		}},
		contender{"bare", func(n int) {
			for range n {
				data := map[string]any{
					"input": base64.StdEncoding.EncodeToString(b.alg.Digest(input)), "prehashed": true, "hash_algorithm": "sha2-384",
					"marshaling_algorithm": "jws", "key_version": 1,
				}
				if b.alg == signer.RS384 {
					data["signature_algorithm"] = "pkcs1v15"
				}
				answer, err := bare.Logical().WriteWithContext(ctx, path, data)
				must(err)
				runtime.KeepAlive(answer)
			}
		}},
	), nil
}

// bareClient is what Vault's own package makes of the environment, as programs do.
func (b *vaultBench) bareClient() (*api.Client, error) {
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, config.Error
	}
	config.Address = b.address
	client, err := api.NewClient(config)
	if err != nil {
		return nil, err
	}
	client.SetToken(b.root.Token())
	return client, nil
}

func authenticate(ctx context.Context, p provider.Provider) error {
	return p.Authenticate(ctx, vaultRequest, func(context.Context, provider.Credential) error { return nil })
}

// requests counts what comes to Vault for an assertion, once the provider is warm.
func (b *vaultBench) requests(ctx context.Context) (float64, error) {
	target, err := url.Parse(b.address)
	if err != nil {
		return 0, err
	}
	var count atomic.Int64
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { count.Add(1); r.SetURL(target) },
		Transport: b.root.CloneConfig().HttpClient.Transport,
	}
	front := httptest.NewServer(proxy)
	defer front.Close()
	p, err := b.open(ctx, front.URL)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	if err := authenticate(ctx, p); err != nil {
		return 0, err
	}
	const assertions = 100
	count.Store(0)
	for range assertions {
		if err := authenticate(ctx, p); err != nil {
			return 0, err
		}
	}
	if n := count.Load(); n < assertions {
		return 0, fmt.Errorf("%d requests for %d assertions: they went elsewhere", n, assertions)
	}
	return float64(count.Load()) / assertions, nil
}
