package smartcred_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/smartcred/smartcred"
)

// An Observer that counts what a dashboard shows.
func ExampleObserverFunc() {
	fallbacks := 0
	observer := smartcred.ObserverFunc(func(_ context.Context, e smartcred.Event) {
		if e.Kind == smartcred.EventCredentialFallback {
			fallbacks++
		}
	})
	smartcred.Notify(context.Background(), observer, smartcred.Event{Kind: smartcred.EventCredentialFallback})
	fmt.Println(fallbacks)
	// Output: 1
}

// A backend says when to ask again.
func ExampleUnavailableError() {
	err := fmt.Errorf("mybackend: look up secret: %w", &smartcred.UnavailableError{Err: errors.New("sealed")})
	fmt.Println(errors.Is(err, smartcred.ErrUnavailable), err)
	// Output: true mybackend: look up secret: unavailable: sealed
}
