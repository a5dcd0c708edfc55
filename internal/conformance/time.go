package conformance

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
)

const (
	// cancelBound is how soon a call must return whose context has ended.
	cancelBound = 100 * time.Millisecond
	cancelRuns  = 20

	// giveUp is when a call that ignores its context is no longer waited for.
	giveUp = 3 * time.Second

	recoverTime = 15 * time.Second // for a backend to be there again after an outage
	endTime     = 5 * time.Second  // for goroutines to end
	step        = 20 * time.Millisecond
)

// All runs call for n callers at once and returns the first error.
func All(n int, call func(i int) error) error {
	var callers sync.WaitGroup
	errs := make([]error, n)
	start := make(chan struct{})
	for i := range n {
		callers.Go(func() {
			<-start
			errs[i] = call(i)
		})
	}
	close(start)
	callers.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("caller %d of %d: %w", i+1, n, err)
		}
	}
	return nil
}

// CancelledBefore makes calls whose context has ended already. The fastest of
// three must be back within 100 ms, because machines are shared.
func CancelledBefore(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	fastest := giveUp
	for range 3 {
		start := time.Now()
		if err := ended(call(ctx)); err != nil {
			return err
		}
		fastest = min(fastest, time.Since(start))
	}
	return inTime(fastest)
}

func inTime(took time.Duration) error {
	if took > cancelBound {
		return fmt.Errorf("it came back %s after its context had ended; %s is the most", took.Round(time.Millisecond), cancelBound)
	}
	return nil
}

// CancelledDuring makes calls of a backend that does not answer, and ends their
// contexts. The median of 20 must be back within 100 ms of when a goroutine that
// does nothing else saw its context end, because machines are shared.
func CancelledDuring(ctx context.Context, call func(context.Context) error) error {
	took := make([]time.Duration, cancelRuns)
	err := All(cancelRuns, func(i int) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		back, returned, saw := make(chan error, 1), make(chan time.Time, 1), make(chan time.Time, 1)
		go func() {
			err := call(ctx)
			returned <- time.Now()
			back <- err
		}()
		go func() {
			<-ctx.Done()
			saw <- time.Now()
		}()
		underWay := time.NewTimer(50 * time.Millisecond)
		defer underWay.Stop()
		select {
		case <-underWay.C:
		case err := <-back:
			if err == nil {
				return errors.New("it answered although the backend does not: the harness stalls nothing")
			}
			return fmt.Errorf("it gave up before its context ended: %w", err)
		}
		cancel()
		limit := time.NewTimer(giveUp)
		defer limit.Stop()
		select {
		case err := <-back:
			took[i] = (<-returned).Sub(<-saw)
			return ended(err)
		case <-limit.C:
			return fmt.Errorf("it was not back %s after its context ended", giveUp)
		}
	})
	if err != nil {
		return err
	}
	slices.Sort(took)
	return inTime(took[len(took)/2])
}

// ended checks the error of a call whose context was cancelled.
func ended(err error) error {
	switch {
	case err == nil:
		return errors.New("it did not fail although its context had ended")
	case !errors.Is(err, context.Canceled):
		return fmt.Errorf("its context had ended, and the error is none that errors.Is context.Canceled: %w", err)
	case errors.Is(err, smartcred.ErrNotFound) || errors.Is(err, smartcred.ErrDenied):
		return fmt.Errorf("its context had ended, and the error claims that the backend answered: %w", err)
	}
	return nil
}

// Recovers calls until call returns nil, for 15 seconds at most.
func Recovers(ctx context.Context, call func() error) error {
	deadline := time.Now().Add(recoverTime)
	for {
		err := call()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s after the backend was there again: %w", recoverTime, err)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// Left reports goroutines that use leaves behind. It is run once before they are
// counted, for what is made once and stays: connections of a shared client,
// servers of the harness.
func Left(ctx context.Context, use func() error) error {
	if err := use(); err != nil {
		return err
	}
	before := least(ctx)
	if err := use(); err != nil {
		return err
	}
	deadline := time.Now().Add(endTime)
	for {
		n := runtime.NumGoroutine()
		if n <= before {
			return nil
		}
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			stacks = stacks[:runtime.Stack(stacks, true)]
			return fmt.Errorf("%d goroutines were there before and %d are there %s after Close:\n%s", before, n, endTime, stacks)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// least waits for goroutines that are about to end and returns how many stay.
func least(ctx context.Context) int {
	n := runtime.NumGoroutine()
	for quiet := 0; quiet < 10; quiet++ {
		if pause(ctx) != nil {
			break
		}
		if now := runtime.NumGoroutine(); now < n {
			n, quiet = now, 0
		}
	}
	return n
}

func pause(ctx context.Context) error {
	timer := time.NewTimer(step)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
