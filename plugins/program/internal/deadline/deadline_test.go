package deadline_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred/plugins/program/internal/deadline"
)

type name struct{}

func TestWithTimeout(t *testing.T) {
	errGivenUp := errors.New("given up")
	for name, tt := range map[string]struct {
		end  func(cancelParent context.CancelCauseFunc, cancel context.CancelFunc)
		want error
	}{
		"time is up":       {func(context.CancelCauseFunc, context.CancelFunc) { time.Sleep(time.Minute) }, context.DeadlineExceeded},
		"cancelled":        {func(_ context.CancelCauseFunc, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"parent cancelled": {func(cancelParent context.CancelCauseFunc, _ context.CancelFunc) { cancelParent(errGivenUp) }, context.Canceled},
	} {
		for _, waited := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, cancelParent := context.WithCancelCause(t.Context())
					defer cancelParent(nil)
					ctx, cancel := deadline.WithTimeout(parent, time.Minute)
					defer cancel()
					if waited {
						ctx.Done()
					}
					if at, ok := ctx.Deadline(); !ok || !at.Equal(time.Now().Add(time.Minute)) {
						t.Errorf("deadline %v", at)
					}
					time.Sleep(time.Minute - 1)
					if err := ctx.Err(); err != nil {
						t.Fatalf("ended early: %v", err)
					}
					tt.end(cancelParent, cancel)
					synctest.Wait()
					if err := ctx.Err(); err != tt.want {
						t.Errorf("error %v, want %v", err, tt.want)
					}
					select {
					case <-ctx.Done():
					default:
						t.Error("not done")
					}
					// What it once was it stays.
					time.Sleep(time.Minute)
					cancel()
					if err := ctx.Err(); err != tt.want {
						t.Errorf("later %v, want %v", err, tt.want)
					}
					want := tt.want
					if parent.Err() != nil {
						want = errGivenUp
					}
					if cause := context.Cause(ctx); cause != want {
						t.Errorf("cause %v, want %v", cause, want)
					}
				})
			})
		}
	}
}

func TestParentsSoonerDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		ctx, cancel := deadline.WithTimeout(parent, time.Minute)
		defer cancel()
		began := time.Now()
		<-ctx.Done()
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("done after %v", waited)
		}
	})
}

func TestContextsMadeFromIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := deadline.WithTimeout(context.WithValue(t.Context(), name{}, "x"), time.Minute)
		defer cancel()
		child, stop := context.WithTimeout(ctx, time.Hour)
		defer stop()
		if child.Value(name{}) != "x" {
			t.Error("the value is lost")
		}
		ran := time.Time{}
		context.AfterFunc(ctx, func() { ran = time.Now() })
		began := time.Now()
		<-child.Done()
		synctest.Wait()
		if err := child.Err(); err != context.DeadlineExceeded {
			t.Errorf("the child's error is %v", err)
		}
		if ran.Sub(began) != time.Minute {
			t.Errorf("AfterFunc's function ran at %v", ran)
		}
	})
}

func TestAfterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran := make(map[string]bool)
		parent, cancelParent := context.WithCancel(t.Context())
		ctx, cancel := deadline.WithTimeout(parent, time.Minute)
		defer cancel()
		deadline.AfterCancel(ctx, func() { ran["its deadline alone"] = true })
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(ran) != 0 {
			t.Errorf("%v ran", ran)
		}
		cancelParent()
		synctest.Wait()
		if !ran["its deadline alone"] {
			t.Error("the parent's end did not run it")
		}
		plain, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		stopped := deadline.AfterCancel(plain, func() { ran["stopped"] = true })
		deadline.AfterCancel(plain, func() { ran["another context"] = true })
		if !stopped() {
			t.Error("it could not be stopped")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if ran["stopped"] || !ran["another context"] {
			t.Errorf("%v ran", ran)
		}
	})
}
