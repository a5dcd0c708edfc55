package secretrotator_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
)

// Whatever call fails, before or after it was made: running it again comes to
// one AWSCURRENT that the server takes, with the old one as AWSPREVIOUS, or to
// an error that says what to do. Where servers have an overlap, AWSCURRENT is
// taken at every moment.
func TestEveryFailureIsGoneOnFrom(t *testing.T) {
	type setup func(w *world, t *testing.T) (setter secretrotator.Setter, overlap bool)
	registration := func(change func(*registrar)) setup {
		return func(w *world, t *testing.T) (secretrotator.Setter, bool) {
			g := newRegistrar(t, w.ehr)
			change(g)
			w.field = "client_secret"
			w.aws.PutSecret(secretName, g.value())
			return w.registration(g), g.overlap
		}
	}
	setups := []struct {
		name string
		setup
	}{
		{"hook", func(w *world, t *testing.T) (secretrotator.Setter, bool) {
			w.aws.PutSecret(secretName, firstValue)
			return w.hook(newHookService(t, w.ehr), nil), true
		}},
		{"registration", registration(func(g *registrar) { g.overlap = true })},
		{"registration without overlap", registration(func(*registrar) {})},
		{"registration that hides secrets", registration(func(g *registrar) { g.hideSecret, g.overlap = true, true })},
		{"registration with new tokens at updates", registration(func(g *registrar) { g.newOnUpdate, g.overlap = true, true })},
		{"registration with new tokens always", registration(func(g *registrar) { g.newOnRead, g.newOnUpdate, g.overlap = true, true, true })},
	}
	runs := map[string]func(w *world, r *secretrotator.Rotator, version string) error{
		"command": func(w *world, r *secretrotator.Rotator, _ string) error {
			_, err := r.Rotate(w.t.Context(), secretName)
			return err
		},
		"Lambda": func(w *world, r *secretrotator.Rotator, version string) error { return w.invokeAll(r, version) },
	}
	for _, s := range setups {
		for name, run := range runs {
			t.Run(s.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				for _, after := range []bool{false, true} {
					for at, more := 0, true; more; at++ {
						more = oneFailure(t, s.setup, run, name == "Lambda", at, after)
						if at > 40 {
							t.Fatal("it never ends")
						}
					}
				}
			})
		}
	}
}

// oneFailure runs a rotation in which one call fails, until it is done. It
// reports whether there was such a call.
func oneFailure(t *testing.T, setup func(*world, *testing.T) (secretrotator.Setter, bool), run func(*world, *secretrotator.Rotator, string) error, managed bool, at int, after bool) bool {
	w := newWorld(t, "", "")
	setter, overlap := setup(w, t)
	r := w.rotator(setter)
	version := ""
	if managed {
		version = w.begin()
	}
	w.faults.arm(at, after)
	first := run(w, r, version)
	calls := w.faults.made()
	hit := len(calls) > at
	what := ""
	if hit {
		what = fmt.Sprintf("call %d (%s) failed, after it was made: %t", at, calls[at], after)
	}
	if hit && first == nil && w.secret(awsfake.Current) == firstValue {
		t.Errorf("%s: no error, and it is not done", what)
	}
	if overlap && !w.takes(w.secret(awsfake.Current)) {
		t.Errorf("%s: AWSCURRENT is not taken in between", what)
	}
	w.faults.arm(-1, false)
	var err error
	// The command's next run after one that was done is another rotation.
	if first != nil && (managed || w.secret(awsfake.Current) == firstValue) {
		err = run(w, r, version)
	}
	for _, e := range []error{first, err} {
		if e != nil {
			w.noLeak(e.Error())
		}
	}
	w.noLeak(w.log.String())
	if err != nil {
		// The server's one token was lost on the way: nobody but its operator can help.
		if !strings.Contains(err.Error(), "have its operator issue one") || !strings.Contains(what, "/register/") && !strings.Contains(what, "PutSecretValue") {
			t.Errorf("%s: not gone on from: %v", what, err)
		}
		return hit
	}
	current, previous := w.secret(awsfake.Current), w.secret(awsfake.Previous)
	if current == firstValue || previous != firstValue {
		t.Errorf("%s: current %q, previous %q", what, current, previous)
	}
	if !w.takes(current) {
		t.Errorf("%s: the server does not take AWSCURRENT", what)
	}
	if first != nil && errors.Is(first, secretrotator.ErrRefused) {
		t.Errorf("%s: a refusal: %v", what, first)
	}
	return hit
}

func (w *world) registration(g *registrar) *secretrotator.Registration {
	w.t.Helper()
	r, err := secretrotator.NewRegistration(secretrotator.RegistrationOptions{
		ClientID: clientID, NoOverlap: true, HTTPClient: w.http(), AllowInsecureLoopback: true,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}
