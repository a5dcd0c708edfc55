package main

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/oauth2"

	"github.com/smartcred/smartcred/smartauth"
)

// cachedToken compares a read that memory serves with the least it could cost:
// one atomic load and one look at the clock.
func cachedToken() ([]result, error) {
	ctx := context.Background()
	p, err := secretProvider()
	if err != nil {
		return nil, err
	}
	client, err := smartauth.NewClient(config(new(tokenEndpoint), p))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if _, err := client.Token(ctx); err != nil {
		return nil, err
	}

	var pointer atomic.Pointer[time.Time]
	pointer.Store(new(time.Time))
	reuse := oauth2.ReuseTokenSource(&oauth2.Token{AccessToken: "token", Expiry: time.Now().Add(lifetime * time.Second)}, nil)
	credentials := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "key", CanExpire: true, Expires: time.Now().Add(lifetime * time.Second)}, nil
	}))
	if _, err := credentials.Retrieve(ctx); err != nil {
		return nil, err
	}

	times := race(600,
		parallel("smartcred", func() {
			token, err := client.Token(ctx)
			must(err)
			runtime.KeepAlive(token)
		}),
		parallel("atomic load + time.Now", func() {
			loaded, now := pointer.Load(), time.Now()
			runtime.KeepAlive(loaded)
			runtime.KeepAlive(now)
		}),
		parallel("x/oauth2", func() {
			token, err := reuse.Token()
			must(err)
			runtime.KeepAlive(token)
		}),
		parallel("aws-sdk-go-v2", func() {
			value, err := credentials.Retrieve(ctx)
			must(err)
			runtime.KeepAlive(value)
		}),
	)
	allocations := testing.AllocsPerRun(1000, func() {
		token, err := client.Token(ctx)
		must(err)
		runtime.KeepAlive(token)
	})
	return []result{
		against("smartcred : atomic load + time.Now", times[0], times[1], 1.3),
		against("smartcred : x/oauth2 ReuseTokenSource", times[0], times[2], 1),
		against("smartcred : aws-sdk-go-v2 CredentialsCache", times[0], times[3], unbounded),
		{what: "allocations a read", value: allocations, bound: 0},
	}, nil
}

// parallel is a contender whose operation each of GOMAXPROCS goroutines does n
// times at once.
func parallel(name string, operation func()) contender {
	return contender{name: name, run: func(n int) {
		var all sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			all.Go(func() {
				for range n {
					operation()
				}
			})
		}
		all.Wait()
	}}
}

// must ends the program: the operations measured never fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
