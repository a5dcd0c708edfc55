package awsclient_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
)

// A call ends by its own time-out, its caller, or Close, and says which.
func TestCallsEnd(t *testing.T) {
	call := awsclient.Call{Action: "kms:Sign", Resource: "alias/smart"}
	for name, c := range map[string]struct {
		end        func(cancel func(), calls *awsclient.Calls)
		want, also error
		not        error
	}{
		"time-out": {func(func(), *awsclient.Calls) { time.Sleep(2 * time.Second) }, smartcred.ErrUnavailable, context.DeadlineExceeded, smartcred.ErrClosed},
		"caller":   {func(cancel func(), _ *awsclient.Calls) { cancel() }, context.Canceled, context.Canceled, smartcred.ErrUnavailable},
		"Close":    {func(_ func(), calls *awsclient.Calls) { go calls.Close(nil); time.Sleep(time.Millisecond) }, smartcred.ErrClosed, smartcred.ErrClosed, smartcred.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls awsclient.Calls
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				callCtx, end, err := calls.Begin(ctx, time.Second)
				if err != nil {
					t.Fatal(err)
				}
				c.end(func() { cancel(errors.New("a cause of the caller's")) }, &calls)
				<-callCtx.Done()
				err = call.Error(callCtx, errors.New("what the SDK says"))
				end()
				if !errors.Is(err, c.want) || !errors.Is(err, c.also) || errors.Is(err, c.not) {
					t.Errorf("got %v", err)
				}
				calls.Close(nil)
				if _, _, err := calls.Begin(t.Context(), time.Second); !errors.Is(err, smartcred.ErrClosed) {
					t.Errorf("after Close: got %v", err)
				}
			})
		})
	}
}

func TestCloseWaitsAndClosesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls awsclient.Calls
		ctx, end, err := calls.Begin(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		closed := 0
		go calls.Close(func() { closed++ })
		<-ctx.Done()
		synctest.Wait()
		if closed != 0 {
			t.Error("it closed under a call")
		}
		end()
		synctest.Wait()
		calls.Close(func() { closed++ })
		if closed != 1 {
			t.Errorf("it closed %d times", closed)
		}
	})
}

func TestEndpoints(t *testing.T) {
	for endpoint, c := range map[string]struct{ plain, allowed bool }{
		"https://vpce.example.com":   {true, true},
		"https://127.0.0.1":          {true, true},
		"http://localhost:4566":      {false, true},
		"http://[::1]:4566":          {false, true},
		"http://169.254.169.254":     {false, false},
		"http://localhost.evil.test": {false, false},
		"https://user@example.com":   {false, false},
		"localhost:4566":             {false, false},
		"":                           {false, false},
	} {
		for allow, want := range map[bool]bool{false: c.plain, true: c.allowed} {
			err := awsclient.CheckEndpoint(&endpoint, allow)
			if (err == nil) != want || err != nil && !errors.Is(err, smartcred.ErrInvalidConfig) {
				t.Errorf("%q, http allowed on loopback %v: got %v", endpoint, allow, err)
			}
		}
	}
	if err := awsclient.CheckEndpoint(nil, false); err != nil {
		t.Errorf("AWS's own: %v", err)
	}
}

// Only what looks like AWS's own is shown: a broken proxy may put anything there.
func TestRequestIDs(t *testing.T) {
	const id = "0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f"
	for got, want := range map[string]string{id: id, "": "", "token hunter2": "", id + "\nhunter2": "", "hunter2" + id: ""} {
		if shown := awsclient.RequestIDOf(got); shown != want {
			t.Errorf("%q is shown as %q", got, shown)
		}
	}
}
