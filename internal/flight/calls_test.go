package flight

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
)

// A call ends by its own time-out, its caller, or Close, and says which.
func TestCallsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		end        func(cancel func(), calls *Calls)
		want, also error
		not        error
	}{
		"time-out": {func(func(), *Calls) { time.Sleep(2 * time.Second) }, smartcred.ErrUnavailable, context.DeadlineExceeded, smartcred.ErrClosed},
		"caller":   {func(cancel func(), _ *Calls) { cancel() }, context.Canceled, context.Canceled, smartcred.ErrUnavailable},
		"Close":    {func(_ func(), calls *Calls) { go calls.Close(nil); time.Sleep(time.Millisecond) }, smartcred.ErrClosed, smartcred.ErrClosed, smartcred.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls Calls
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				callCtx, end, err := calls.Begin(ctx, time.Second)
				if err != nil {
					t.Fatal(err)
				}
				c.end(func() { cancel(errors.New("a cause of the caller's")) }, &calls)
				<-callCtx.Done()
				err = Ended(callCtx)
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
		var calls Calls
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
