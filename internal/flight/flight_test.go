package flight

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
)

type key struct{}

func TestOneCallForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Flight[int]
		var runs atomic.Int32
		fn := func(context.Context) (int, error) {
			time.Sleep(time.Second)
			return int(runs.Add(1)), nil
		}
		var callers sync.WaitGroup
		for range 10_000 {
			callers.Go(func() {
				if v, err := f.Do(t.Context(), time.Minute, fn); v != 1 || err != nil {
					t.Errorf("Do = %d, %v", v, err)
				}
			})
		}
		callers.Wait()
		if v, err := f.Do(t.Context(), time.Minute, fn); v != 2 || err != nil {
			t.Errorf("the next call is not a new one: %d, %v", v, err)
		}
	})
}

func TestCallOutlivesItsStarter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Flight[string]
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "kept"))
		call := f.Start(ctx, time.Minute, func(ctx context.Context) (string, error) {
			time.Sleep(time.Second)
			return ctx.Value(key{}).(string), ctx.Err()
		})
		cancel()
		if _, err := call.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the starter waits on: %v", err)
		}
		if v, err := call.Wait(t.Context()); v != "kept" || err != nil {
			t.Errorf("Wait = %q, %v", v, err)
		}
		if v, err := call.Wait(ctx); v != "kept" || err != nil {
			t.Errorf("a result that is there is not returned: %q, %v", v, err)
		}
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Flight[int]
		start := time.Now()
		_, err := f.Do(t.Context(), 3*time.Second, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

func TestCloseWaitsForTheCall(t *testing.T) {
	for name, tt := range map[string]struct {
		ignores time.Duration // how long fn goes on after its context ended
		takes   time.Duration
	}{
		"at once":   {0, 0},
		"cleans up": {2 * time.Second, 2 * time.Second},
		"hangs":     {time.Hour, CloseWait},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f Flight[int]
				var returned atomic.Bool
				call := f.Start(t.Context(), 24*time.Hour, func(ctx context.Context) (int, error) {
					<-ctx.Done()
					time.Sleep(tt.ignores)
					returned.Store(true)
					return 1, nil
				})
				synctest.Wait()
				start := time.Now()
				f.Close()
				if got := time.Since(start); got != tt.takes || returned.Load() != (tt.ignores == tt.takes) {
					t.Errorf("Close took %s, want %s; the call returned: %t", got, tt.takes, returned.Load())
				}
				if _, err := call.Wait(t.Context()); !errors.Is(err, smartcred.ErrClosed) {
					t.Errorf("the call: %v", err)
				}
				if _, err := f.Do(t.Context(), time.Minute, nil); !errors.Is(err, smartcred.ErrClosed) {
					t.Errorf("after Close: %v", err)
				}
				f.Close()
			})
		})
	}
}

func TestGoexitStrandsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Flight[int]
		_, err := f.Do(t.Context(), time.Minute, func(context.Context) (int, error) {
			runtime.Goexit()
			return 1, nil
		})
		if err == nil {
			t.Error("no error")
		}
		v, err := f.Do(t.Context(), time.Minute, func(context.Context) (int, error) { return 2, nil })
		if v != 2 || err != nil {
			t.Errorf("the next call: %d, %v", v, err)
		}
	})
}

// A panic is the program's end, and its own message: it is neither swallowed nor
// turned into callers that wait for ever. The test runs itself to see it.
func TestPanicEndsTheProgram(t *testing.T) {
	const asked = "SMARTCRED_FLIGHT_PANIC"
	if os.Getenv(asked) != "" {
		var f Flight[int]
		_, _ = f.Do(t.Context(), time.Minute, func(context.Context) (int, error) { panic("from the call") })
		select {}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestPanicEndsTheProgram$")
	cmd.Env = append(os.Environ(), asked+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "panic: from the call") {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		for _, stay := range []time.Duration{time.Second, 3 * time.Second} {
			if !g.Enter() {
				t.Fatal("a new gate is closed")
			}
			go func() {
				time.Sleep(stay)
				g.Leave()
			}()
		}
		start := time.Now()
		Land(g.Shut())
		if got := time.Since(start); got != 3*time.Second {
			t.Errorf("the last left after %s, want 3s", got)
		}
		if g.Enter() {
			t.Error("a closed gate lets in")
		}

		var stuck Gate
		stuck.Enter()
		start = time.Now()
		Land(stuck.Shut())
		if got := time.Since(start); got != CloseWait {
			t.Errorf("Close took %s, want %s", got, CloseWait)
		}
		stuck.Leave()
	})
}
