package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/smartcred/smartcred/smartauth"
)

const (
	patience    = 10 * time.Millisecond
	refreshTime = 300 * time.Millisecond
	// deadlineTries are enough for a median that one hiccup of the machine does not move.
	deadlineTries = 25
)

// slowRefresh gives a token that soon ends, then takes its time.
func slowRefresh() *tokenEndpoint {
	e := &tokenEndpoint{expiresIn: func(int64) int { return shortLife }}
	e.wait = func(ctx context.Context, n int64) error {
		if n == 1 {
			return nil
		}
		slow := time.NewTimer(refreshTime)
		defer slow.Stop()
		select {
		case <-slow.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return e
}

// deadline measures when a caller with little time is back, whose call started
// the refresh of an expired token. x/oauth2's Token takes no context, so that
// its caller is back when the refresh is.
func deadline() ([]result, error) {
	ctx := context.Background()
	p, err := secretProvider()
	if err != nil {
		return nil, err
	}
	clients := make([]*smartauth.Client, deadlineTries)
	for i := range clients {
		if clients[i], err = smartauth.NewClient(config(slowRefresh(), p)); err != nil {
			return nil, err
		}
		defer clients[i].Close()
		if _, err := clients[i].Token(ctx); err != nil {
			return nil, err
		}
	}
	other := otherSource(ctx, slowRefresh())
	if _, err := other.Token(); err != nil {
		return nil, err
	}
	time.Sleep(shortLife*time.Second + time.Millisecond)

	var times []float64
	for _, client := range clients {
		took, err := impatient(ctx, client)
		if err != nil {
			return nil, err
		}
		times = append(times, took.Seconds()*1000)
	}
	began := time.Now()
	if _, err := other.Token(); err != nil {
		return nil, err
	}
	value, noise := center(times)
	return []result{
		{what: "back after", value: value, noise: noise, unit: " ms", bound: 20},
		{what: "back after, x/oauth2", value: time.Since(began).Seconds() * 1000, unit: " ms", bound: unbounded, detail: "Token() takes no context"},
	}, nil
}

// impatient asks for a token with a deadline and returns how long that took.
func impatient(ctx context.Context, client *smartauth.Client) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	_, err := client.Token(ctx)
	took := time.Since(began)
	if !errors.Is(err, context.DeadlineExceeded) {
		return took, fmt.Errorf("the call ended with %v, not with its deadline", err)
	}
	return took, nil
}
