package rotationtest_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// A cutover is a rotation without overlap: the server switches, the source only
// later.
type cutover struct {
	*bed
	provider     provider.Rotator
	switchServer func() // the server takes the new credential only
	switchSource func() // the source has it as current
	credentials  int    // that the source has before
}

var cutovers = map[string]func(t *testing.T) cutover{
	"secret": func(t *testing.T) cutover {
		source := newSecrets("one", "")
		b, p := newSecretBed(t, source, provider.RotationOptions{}, "one")
		return cutover{b, p, func() { b.srv.SetSecrets(clientID, "two") }, func() { source.set("two", "one") }, 1}
	},
	"secret with a previous one": func(t *testing.T) cutover {
		source := newSecrets("one", "zero")
		b, p := newSecretBed(t, source, provider.RotationOptions{}, "one")
		return cutover{b, p, func() { b.srv.SetSecrets(clientID, "two") }, func() { source.set("two", "one") }, 2}
	},
	"key": func(t *testing.T) cutover {
		ring := new(keyring)
		ring.add("zero", nil)
		ring.add("one", nil)
		b, p := newKeyBed(t, ring, signer.KeySetOptions{}, provider.RotationOptions{})
		later := new(keyring)
		later.add("two", nil)
		return cutover{b, p, func() {
			keys, err := later.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			set, err := signer.PublicJWKSet(keys)
			if err != nil {
				t.Fatal(err)
			}
			b.srv.SetJWKS(clientID, set)
		}, func() {
			ring.mu.Lock()
			defer ring.mu.Unlock()
			ring.keys = append(later.keys, ring.keys...)
		}, 2}
	},
}

// call has callers ask for the token at once, and returns how many got one.
func (c *cutover) call(t *testing.T, callers int) int {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := 0
	for range callers {
		wg.Go(func() {
			_, err := c.client.Token(t.Context())
			var refused *provider.RefusedError
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				got++
			case !errors.As(err, &refused) || !errors.Is(err, provider.ErrInvalidClient):
				t.Errorf("got %v, want the refusals", err)
			}
		})
	}
	wg.Wait()
	return got
}

func TestServerSwitchesBeforeTheSource(t *testing.T) {
	for name, setUp := range cutovers {
		for _, callers := range []int{1, 200} {
			t.Run(name+map[int]string{1: ", one caller", 200: ", 200 callers"}[callers], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := setUp(t)
					if c.call(t, callers) != callers {
						t.Fatal("no token before the cutover")
					}
					c.switchServer()
					time.Sleep(5 * time.Minute) // the token ends

					c.srv.ResetRequests()
					if c.call(t, callers) != 0 {
						t.Fatal("a token after the cutover")
					}
					if n := c.srv.TokenRequests(); n > 3 || n < c.credentials {
						t.Errorf("%d refused requests before the back-off, want at most 3", n)
					}
					event := c.events.one(t, smartcred.EventAllRefused)
					if event.ClientID != clientID || event.Server != c.srv.URL || event.Version == "" || event.Err == nil {
						t.Errorf("event %+v", event)
					}
					if until := c.provider.Status(t.Context(), clientID, c.srv.URL).BackoffUntil; time.Until(until) <= 0 {
						t.Errorf("back-off until %s", until)
					}
					trials := c.callForAnHour(t, min(callers, 10))

					c.switchSource()
					time.Sleep(2 * time.Second)
					c.srv.ResetRequests()
					if c.call(t, callers) != callers {
						t.Errorf("2 s after the source changed not all callers got a token")
					}
					if n := c.srv.TokenRequests(); n != 1 {
						t.Errorf("%d requests for it, want 1", n)
					}
					t.Logf("%d trials in the back-off", trials)
				})
			})
		}
	}
}

// callForAnHour checks that each trial in the back-off is one request for each
// credential, less what never worked once its budget is spent, and how far apart
// trials are. It ends inside a pause.
func (c *cutover) callForAnHour(t *testing.T, callers int) (trials int) {
	t.Helper()
	var last, longest time.Duration
	sent := map[string]int{}
	start := time.Now()
	for since := time.Duration(0); since < time.Hour || last > time.Since(start)-10*time.Second; since = time.Since(start) {
		c.srv.ResetRequests()
		if c.call(t, callers) != 0 {
			t.Fatal("a token in the back-off")
		}
		c.served = 0
		if trial := strings.Fields(c.sent()); len(trial) > 0 {
			trials++
			longest = max(longest, since-last)
			last = since
			for _, credential := range trial {
				sent[credential]++
			}
			slices.Sort(trial)
			if len(slices.Compact(slices.Clone(trial))) < len(trial) || len(trial) > c.credentials {
				t.Errorf("%s into the back-off: a trial with %s", since, trial)
			}
		}
		time.Sleep(time.Second)
	}
	if sent["zero!"] > 12 {
		t.Errorf("what never worked was refused %d times in an hour", sent["zero!"])
	}
	if sent["one!"] != trials {
		t.Errorf("the credential that had worked was sent in %d of %d trials", sent["one!"], trials)
	}
	if longest > 5*time.Minute+time.Second || longest < 4*time.Minute {
		t.Errorf("trials are up to %s apart, want 5 min less a fifth at most", longest)
	}
	return trials
}

// A credential that is wrong from the start, and one that was right: each is sent
// once, then nothing but trials, and what is repaired at the server only heals.
func TestRepairedAtTheServerOnly(t *testing.T) {
	for name, setUp := range cutovers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := setUp(t)
				c.call(t, 1)
				c.srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Status: http.StatusUnauthorized, Error: "invalid_client"})
				time.Sleep(5 * time.Minute)
				c.call(t, 1)
				c.callForAnHour(t, 1)
				c.srv.ClearFaults()
				for repaired := time.Now(); c.call(t, 1) == 0; time.Sleep(time.Second) {
					if time.Since(repaired) > 5*time.Minute {
						t.Fatal("not healed 5 minutes after the repair")
					}
				}
				if status := c.provider.Status(t.Context(), clientID, c.srv.URL); !status.BackoffUntil.IsZero() || status.InForce.Refusals != 0 {
					t.Errorf("healed, and the status is %+v", status)
				}
			})
		})
	}
}
