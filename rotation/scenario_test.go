package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
)

const day = 24 * time.Hour

// unlessRaced is how much is simulated, and how much under the race detector.
func unlessRaced(n, underRace int) int {
	if raced {
		return underRace
	}
	return n
}

// mostWithin returns the largest number of times that lie within one window.
func mostWithin(window time.Duration, times []time.Time) int {
	most, first := 0, 0
	for i, at := range times {
		for at.Sub(times[first]) >= window {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// watched is a world whose requests are kept with their times.
type watched struct {
	*world
	began    []time.Time
	refusals []time.Time
	values   map[string]int // refused requests by value
	flaky    int            // refuses one valid request in so many
	rng      *rand.Rand
}

func watch(w *world, seed uint64) *watched {
	return &watched{world: w, values: map[string]int{}, rng: rand.New(rand.NewPCG(seed, 1))}
}

func (w *watched) call() rotation.Call[string] {
	c := w.world.call()
	c.Send = func(ctx context.Context, value string) error {
		w.mu.Lock()
		began := time.Now()
		w.requests = w.requests[:0]
		refuse := w.flaky > 0 && w.rng.IntN(w.flaky) == 0
		w.mu.Unlock()
		err := w.send(ctx, value)
		if err == nil && refuse {
			err = errRefused
		}
		if errors.Is(err, errRefused) {
			w.mu.Lock()
			w.began, w.refusals = append(w.began, began), append(w.refusals, time.Now())
			w.values[value]++
			w.mu.Unlock()
		}
		return err
	}
	return c
}

func (w *watched) code() rotation.Call[string] {
	c := w.call()
	c.SingleUse = true
	return c
}

func TestFlakyServerForADay(t *testing.T) {
	for name, others := range map[string][]string{"alone": nil, "with a dead previous": {"old"}} {
		for seed := range uint64(unlessRaced(4, 1)) {
			t.Run(fmt.Sprint(name, ", seed ", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := watch(newWorld("a", others...), seed)
					w.accept("a")
					w.flaky = 50
					e := engine()
					failed, calls := 0, int(day/time.Second)
					for range calls {
						if e.Do(t.Context(), w.call()) != nil {
							failed++
						}
						time.Sleep(time.Second)
					}
					share := 100 * float64(failed) / float64(calls)
					t.Logf("%d of %d calls failed: %.3f %%; %d refused requests, %d of them of the dead previous", failed, calls, share, len(w.refusals), w.values["old"])
					if share >= 0.1 {
						t.Errorf("%.3f %% of calls failed", share)
					}
				})
			})
		}
	}
}

// TestDeadCredentialForAMonth: one that the server never took costs what the
// budget allows, and no call.
func TestDeadCredentialForAMonth(t *testing.T) {
	for name, test := range map[string]struct {
		good   string
		flaky  int
		dead   string
		failed int // of 10,000 calls, at most
	}{
		"a dead previous, and a flaky server": {"a", 50, "old", 10},
		"a dead current":                      {"old", 0, "a", 0},
		"a dead current, and a flaky server":  {"old", 50, "a", 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watch(newWorld("a", "old"), 1)
				w.accept(test.good)
				w.flaky = test.flaky
				e := engine()
				failed, calls := 0, unlessRaced(30, 5)*int(day/time.Minute)
				var dead []time.Time
				for range calls {
					before := w.values[test.dead]
					if e.Do(t.Context(), w.call()) != nil {
						failed++
					}
					for range w.values[test.dead] - before {
						dead = append(dead, time.Now())
					}
					time.Sleep(time.Minute)
				}
				hour, ofDay := mostWithin(time.Hour, dead), mostWithin(day, dead)
				t.Logf("%d refused requests with it, at most %d in an hour and %d in 24 hours; %d of %d calls failed", len(dead), hour, ofDay, failed, calls)
				if hour > 12 || ofDay > 40 {
					t.Errorf("over the budget: %d in an hour, %d in 24 hours", hour, ofDay)
				}
				if failed*10_000 > test.failed*calls {
					t.Errorf("%d of %d calls failed", failed, calls)
				}
			})
		})
	}
}

// TestSourceGoneWildForADay: another value at every look-up, and none is right.
func TestSourceGoneWildForADay(t *testing.T) {
	for name, test := range map[string]struct {
		code      func(n int) bool
		hour, day int
	}{
		"client_credentials": {func(int) bool { return false }, 12 + 4, 40 + 24*4},
		"codes":              {func(int) bool { return true }, 12 + 4, 40 + 24*4},
		"both":               {func(n int) bool { return n%2 == 0 }, 2 * (12 + 4), 2 * (40 + 24*4)}, // codes have a budget of their own
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watch(newWorld("0"), 1)
				e := engine()
				for n := range unlessRaced(24, 6) * int(time.Hour/(5*time.Second)) {
					w.mu.Lock()
					w.current = fmt.Sprint(n)
					w.mu.Unlock()
					call := w.call()
					call.SingleUse = test.code(n)
					if e.Do(t.Context(), call) == nil {
						t.Fatal("served")
					}
					time.Sleep(5 * time.Second)
				}
				hour, ofDay := mostWithin(time.Hour, w.refusals), mostWithin(day, w.refusals)
				t.Logf("%d refused requests, at most %d in an hour", ofDay, hour)
				if hour > test.hour || ofDay > test.day {
					t.Errorf("%d refused requests in an hour and %d in the day, want at most %d and %d", hour, ofDay, test.hour, test.day)
				}
			})
		})
	}
}

// TestNewValueIsUsedWhenTheBudgetIsSpent: the source is asked past its cache then too.
func TestNewValueIsUsedWhenTheBudgetIsSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(newWorld("wrong"), 1)
		e := engine()
		var spent *rotation.RefusedError
		for spent == nil || !spent.BudgetSpent {
			if err := e.Do(t.Context(), w.call()); !errors.As(err, &spent) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		w.mu.Lock()
		w.current = "right"
		w.mu.Unlock()
		w.accept("right")
		time.Sleep(2 * time.Second)
		if err := e.Do(t.Context(), w.call()); err != nil {
			t.Errorf("2 s after the source changed: %v", err)
		}
	})
}

// TestEverythingRefusedThenRepairedAtTheServer: the same credential works again,
// also for a process that started anew meanwhile.
func TestEverythingRefusedThenRepairedAtTheServer(t *testing.T) {
	for name, restart := range map[string]bool{"one process": false, "over a restart": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watch(newWorld("a", "b"), 1)
				w.accept("a")
				opts := &rotation.Options{Observer: smartcred.Discard, Memory: &mapMemory{kept: map[string]string{}}}
				e := rotation.New[string](opts)
				if err := e.Do(t.Context(), w.call()); err != nil {
					t.Fatal(err)
				}
				w.accept()
				for range 3600 {
					if e.Do(t.Context(), w.call()) == nil {
						t.Fatal("served by a server that refuses everything")
					}
					time.Sleep(time.Second)
				}
				refused := len(w.refusals)
				if restart {
					e = rotation.New[string](opts)
				}
				w.accept("a")
				repaired := time.Now()
				for e.Do(t.Context(), w.call()) != nil {
					time.Sleep(time.Second)
				}
				t.Logf("%d refused requests in an hour, healed after %s", refused, time.Since(repaired))
				if time.Since(repaired) > 5*time.Minute {
					t.Errorf("healed after %s", time.Since(repaired))
				}
			})
		})
	}
}

// TestNoOverlap: the server switches to a new secret before the source has it.
//
// Nobody can know of the switch before the first refusal came back, so requests
// begun before that are counted apart: those of the callers at work just then.
func TestNoOverlap(t *testing.T) {
	for _, callers := range []int{1, 10, 1000} {
		for name, others := range map[string][]string{"current alone": nil, "with a previous": {"old"}} {
			t.Run(fmt.Sprint(callers, " callers, ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := watch(newWorld("a", others...), 1)
					w.accept("a", "old")
					w.latency = 50 * time.Millisecond
					var mu sync.Mutex
					var backoffs []time.Time
					e := rotation.New[string](&rotation.Options{Observer: smartcred.ObserverFunc(func(_ context.Context, event smartcred.Event) {
						if event.Kind == smartcred.EventAllRefused {
							mu.Lock()
							defer mu.Unlock()
							backoffs = append(backoffs, time.Now())
						}
					})})
					type outcome struct {
						began time.Time
						err   error
					}
					var outcomes []outcome
					ctx, stop := context.WithCancel(t.Context())
					var all sync.WaitGroup
					for n := range callers {
						all.Go(func() {
							time.Sleep(time.Duration(n) * time.Second / time.Duration(callers))
							for ctx.Err() == nil {
								began := time.Now()
								err := e.Do(t.Context(), w.call())
								mu.Lock()
								outcomes = append(outcomes, outcome{began, err})
								mu.Unlock()
								time.Sleep(time.Second)
							}
						})
					}
					time.Sleep(10*time.Second + time.Microsecond)
					w.accept("b")
					time.Sleep(time.Minute)
					w.mu.Lock()
					w.current = "b"
					changed := time.Now()
					w.mu.Unlock()
					time.Sleep(10 * time.Second)
					stop()
					all.Wait()

					known := w.refusals[0]
					aside, before := 0, 0
					trials := make([]int, len(backoffs)+1) // the last one found the new value
					for _, began := range w.began {
						if !began.After(known) {
							aside++
							continue
						}
						n, _ := slices.BinarySearchFunc(backoffs, began, time.Time.Compare)
						if n == 0 {
							before++
						} else {
							trials[n]++
						}
					}
					t.Logf("%d requests refused that began before the first refusal was known, %d after it and before the back-off, then %v in %d trials in a minute", aside, before, trials[1:], len(trials)-1)
					if before > 3 {
						t.Errorf("%d requests refused before the back-off began", before)
					}
					for _, n := range trials[1:] {
						if n > 1+len(others) {
							t.Errorf("%d requests in one trial of %d credentials", n, 1+len(others))
						}
					}
					for _, o := range outcomes {
						if o.err != nil && o.began.Sub(changed) >= 2*time.Second {
							t.Errorf("a call %s after the source changed: %v", o.began.Sub(changed), o.err)
						}
					}
				})
			})
		}
	}
}

// TestFloodOfCodes: whoever sends browsers to the callback costs no more than
// the budget of codes, and takes nothing from the others.
func TestFloodOfCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(newWorld("a", "b"), 1)
		w.latency = 10 * time.Millisecond
		e := engine()
		var all sync.WaitGroup
		for range 2000 {
			all.Go(func() { _ = e.Do(t.Context(), w.code()) })
		}
		all.Wait()
		t.Logf("%d refused requests for 2,000 codes at once", len(w.refusals))
		if len(w.refusals) > 12+4 {
			t.Errorf("%d refused requests", len(w.refusals))
		}
		w.accept("b")
		if err := e.Do(t.Context(), w.call()); err != nil {
			t.Errorf("client_credentials after the flood: %v", err)
		}
	})
}
