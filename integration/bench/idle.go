package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

const fleetSize = 100_000

// idleClients counts the bytes that a client at rest keeps alive: made, used for
// one token, idle since. The configurations with their strings exist before the
// counting begins; the client's own copy of the Config struct, and the token of
// 64 characters, count. A client that is not told its token endpoint also keeps
// its server's discovery document, which the last line shows.
func idleClients() ([]result, error) {
	dir, err := os.MkdirTemp("", "smartcred-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	key, err := newKey(signer.ES384)
	if err != nil {
		return nil, err
	}
	keys, err := fileSigner(dir, key)
	if err != nil {
		return nil, err
	}
	jwts, err := jwtProvider(&repeatingSigner{Signer: keys})
	if err != nil {
		return nil, err
	}
	defer jwts.Close()
	secrets, err := secretProvider()
	if err != nil {
		return nil, err
	}

	var results []result
	for _, c := range []struct {
		name string
		p    provider.Provider
	}{{"private_key_jwt", jwts}, {"client_secret_basic", secrets}} {
		bytes, goroutines, err := fleet(c.p, fleetSize, false)
		if err != nil {
			return nil, err
		}
		results = append(results,
			result{what: "bytes a client, " + c.name, value: bytes, unit: " B", bound: 2048},
			// A runtime goroutine may come or go; one a client may not.
			result{what: "goroutines in all, " + c.name, value: float64(goroutines), bound: 5})
	}
	bytes, _, err := fleet(secrets, fleetSize, true)
	if err != nil {
		return nil, err
	}
	return append(results, result{
		what: "bytes a client, with its server's document", value: bytes, unit: " B", bound: unbounded,
		detail: fmt.Sprintf("of %d B", len(discoveryDocument)),
	}), nil
}

// fleet makes size clients that share transport and provider, gets a token with
// each, and returns the bytes each keeps, and how many goroutines are left.
func fleet(p provider.Provider, size int, discover bool) (bytesEach float64, goroutines int, err error) {
	ctx := context.Background()
	endpoint := new(tokenEndpoint)
	configs := make([]smartauth.Config, size)
	for i := range configs {
		configs[i] = config(endpoint, p)
		configs[i].BaseURL = fmt.Sprintf("https://fhir.example/%d/r4", i)
		configs[i].TokenEndpoint = fmt.Sprintf("https://auth.example/%d/token", i)
		if discover {
			configs[i].TokenEndpoint = ""
		}
		configs[i].ClientID = fmt.Sprintf("client-%d", i)
	}
	clients := make([]*smartauth.Client, size)
	heapBefore, goroutinesBefore := settle()
	for i := range clients {
		if clients[i], err = smartauth.NewClient(configs[i]); err != nil {
			return 0, 0, err
		}
		if _, err = clients[i].Token(ctx); err != nil {
			return 0, 0, err
		}
	}
	heapAfter, goroutinesAfter := settle()
	for _, client := range clients {
		if err := client.Close(); err != nil {
			return 0, 0, err
		}
	}
	runtime.KeepAlive(configs)
	return float64(heapAfter-heapBefore) / float64(size), goroutinesAfter - goroutinesBefore, nil
}

// settle collects garbage, waits for goroutines that are ending, and returns
// the bytes alive and the number of goroutines.
func settle() (heap int64, goroutines int) {
	for range 3 {
		runtime.GC()
	}
	goroutines = runtime.NumGoroutine()
	for range 100 {
		time.Sleep(time.Millisecond)
		now := runtime.NumGoroutine()
		if now >= goroutines {
			break
		}
		goroutines = now
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc), goroutines
}

// A repeatingSigner signs once and then answers with that signature: memory is
// measured here, and 100,000 real signatures would take a minute.
type repeatingSigner struct {
	signer.Signer
	signature atomic.Pointer[[]byte]
}

// Sign implements signer.Signer.
func (s *repeatingSigner) Sign(ctx context.Context, key signer.Key, input []byte) ([]byte, error) {
	if signature := s.signature.Load(); signature != nil {
		return *signature, nil
	}
	signature, err := s.Signer.Sign(ctx, key, input)
	if err == nil {
		s.signature.Store(&signature)
	}
	return signature, err
}
