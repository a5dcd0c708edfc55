package secretrotator_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
)

func newRegistrationWorld(t *testing.T) (*world, *registrar) {
	t.Helper()
	w := newWorld(t, "client_secret", "")
	g := newRegistrar(t, w.ehr)
	w.aws.PutSecret(secretName, g.value())
	return w, g
}

func TestRegistration(t *testing.T) {
	tests := []struct {
		name   string
		change func(*registrar)
		puts   int // versions written
	}{
		{"with an overlap", func(g *registrar) { g.overlap = true }, 1},
		{"without", func(*registrar) {}, 1},
		{"new token at the update", func(g *registrar) { g.newOnUpdate = true }, 1},
		{"new token at the read too", func(g *registrar) { g.newOnRead, g.newOnUpdate = true, true }, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w, g := newRegistrationWorld(t)
			test.change(g)
			r := w.rotator(w.registration(g))
			w.faults.arm(-1, false)
			for range 2 { // what was kept serves the next time
				updates := g.updates
				w.aws.ResetCalls()
				if err := w.invokeAll(r, w.begin()); err != nil {
					t.Fatal(err)
				}
				if g.updates != updates+1 || w.aws.Calls("PutSecretValue") != test.puts {
					t.Errorf("%d updates, %d puts", g.updates-updates, w.aws.Calls("PutSecretValue"))
				}
			}
			if w.secret(awsfake.Current) != g.secret || w.member(awsfake.Current, "registration_access_token") != g.token {
				t.Errorf("the value is %s", w.aws.SecretString(secretName, awsfake.Current))
			}
			if text := w.aws.SecretString(secretName, awsfake.Current); !strings.Contains(text, `"note":"kept"`) || !strings.Contains(text, `"number":12345678901234567890`) {
				t.Errorf("members are lost: %s", text)
			}
			// The pending value is written before anything else.
			calls := w.faults.made()
			for i, call := range calls {
				if strings.HasPrefix(call, "PUT ") && calls[i+1] != "PutSecretValue" {
					t.Errorf("after the update came %s", calls[i+1])
				}
			}
			w.noLeak(w.log.String(), g.tokens()...)
		})
	}
}

func TestRegistrationRefusals(t *testing.T) {
	tests := []struct {
		name   string
		change func(*world, *registrar)
		is     error
		says   string
		puts   int
	}{
		{"the server issues none", func(_ *world, g *registrar) { g.keepSecret = true }, smartcred.ErrInvalidConfig, "issued no new secret", 0},
		{"none, but a new token", func(_ *world, g *registrar) { g.keepSecret, g.newOnUpdate = true, true }, smartcred.ErrInvalidConfig, "issued no new secret", 1},
		{"the token is refused", func(_ *world, g *registrar) { g.token = "another" }, smartcred.ErrDenied, "operator", 0},
		{"another client's", func(_ *world, g *registrar) { g.metadata["client_id"] = "another" }, smartcred.ErrInvalidConfig, "client_id", 0},
		{"no token", func(w *world, g *registrar) {
			w.aws.PutSecret(secretName, strings.Replace(g.value(), "registration_access_token", "x", 1))
		}, smartcred.ErrInvalidConfig, "registration_access_token", 0},
		{"no address", func(w *world, g *registrar) {
			w.aws.PutSecret(secretName, strings.Replace(g.value(), "registration_client_uri", "x", 1))
		}, smartcred.ErrInvalidConfig, "registration_client_uri", 0},
		{"http", func(w *world, g *registrar) {
			w.aws.PutSecret(secretName, strings.Replace(g.value(), g.url, "http://ehr.example.org/r", 1))
		}, smartcred.ErrInvalidConfig, "http", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w, g := newRegistrationWorld(t)
			test.change(w, g)
			_, err := w.rotator(w.registration(g)).Rotate(t.Context(), secretName)
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
				t.Error(err)
			}
			if n := w.aws.Calls("PutSecretValue"); n != test.puts {
				t.Errorf("%d versions written, want %d", n, test.puts)
			}
			if test.puts == 1 && w.member(awsfake.Current, "registration_access_token") != g.token {
				t.Error("the new token is lost")
			}
			if w.secret(awsfake.Current) != firstValue {
				t.Error("AWSCURRENT has another secret")
			}
			w.noLeak(err.Error()+w.log.String(), g.tokens()...)
		})
	}
}

func TestSecretsThatEnd(t *testing.T) {
	t.Run("later", func(t *testing.T) {
		w, g := newRegistrationWorld(t)
		g.secretEndsAt = time.Now().Add(time.Hour).Unix()
		if _, err := w.rotator(w.registration(g)).Rotate(t.Context(), secretName); err != nil {
			t.Fatal(err)
		}
		if text := w.aws.SecretString(secretName, awsfake.Current); !strings.Contains(text, `"client_secret_expires_at":`) {
			t.Errorf("the end is not kept: %s", text)
		}
	})
	t.Run("before the next rotation", func(t *testing.T) {
		w, g := newRegistrationWorld(t)
		g.secretEndsAt = time.Now().Add(time.Hour).Unix()
		defer w.aws.Inject(awsfake.Fault{Operation: "DescribeSecret", Change: func(members map[string]any) {
			members["NextRotationDate"] = time.Now().Add(24 * time.Hour).Unix()
		}})()
		if _, err := w.rotator(w.registration(g)).Rotate(t.Context(), secretName); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(w.log.String(), "rotate more often") {
			t.Error("no warning")
		}
	})
	t.Run("already", func(t *testing.T) {
		w, g := newRegistrationWorld(t)
		g.overlap, g.secretEndsAt = true, time.Now().Add(-time.Second).Unix()
		r := w.rotator(w.registration(g))
		version := w.begin()
		if err := w.invoke(r, secretrotator.StepCreate, version); err != nil {
			t.Fatal(err)
		}
		for _, step := range secretrotator.Steps[1:] {
			err := r.Handle(t.Context(), secretrotator.Event{Step: step, SecretID: w.arn, ClientRequestToken: version})
			if !errors.Is(err, secretrotator.ErrRefused) || !strings.Contains(err.Error(), "expired") {
				t.Errorf("%s: %v", step, err)
			}
		}
		if w.secret(awsfake.Current) != firstValue {
			t.Error("AWSCURRENT moved")
		}
		// As the error says: and the server's answer to a read is not taken again.
		g.secretEndsAt = 0
		g.secretEnded = true
		w.aws.MoveStage(secretName, awsfake.Pending, "")
		if _, err := r.Rotate(t.Context(), secretName); err != nil || g.updates != 2 || w.secret(awsfake.Current) != g.secret {
			t.Errorf("rotated again, after %d updates: %v", g.updates, err)
		}
	})
}

func TestWithoutAnOverlapItRefuses(t *testing.T) {
	tests := []struct {
		name string
		opts secretrotator.RegistrationOptions
		says string // nothing: accepted
	}{
		{"neither", secretrotator.RegistrationOptions{ClientID: clientID}, "no_overlap"},
		{"both", secretrotator.RegistrationOptions{ClientID: clientID, Overlap: time.Hour, NoOverlap: true}, "contradicts"},
		{"too short", secretrotator.RegistrationOptions{ClientID: clientID, Overlap: time.Minute}, "2 minutes"},
		{"no client", secretrotator.RegistrationOptions{NoOverlap: true}, "client_id"},
		{"an overlap", secretrotator.RegistrationOptions{ClientID: clientID, Overlap: time.Hour}, ""},
		{"accepted", secretrotator.RegistrationOptions{ClientID: clientID, NoOverlap: true}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := secretrotator.NewRegistration(test.opts)
			if (err == nil) != (test.says == "") || err != nil && (!errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), test.says)) {
				t.Error(err)
			}
		})
	}
}

// A caller that goes away during the update, by a signal for example, does not
// lose what is issued.
func TestIssuedIsStoredWhenTheCallerGoes(t *testing.T) {
	w, g := newRegistrationWorld(t)
	g.hideSecret = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g.onUpdate = cancel
	r := w.rotator(w.registration(g))
	if _, err := r.Rotate(ctx, secretName); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if g.updates != 1 || w.secret(awsfake.Pending) != g.secret {
		t.Errorf("%d updates, pending %q", g.updates, w.secret(awsfake.Pending))
	}
	if _, err := r.Rotate(t.Context(), secretName); err != nil || g.updates != 1 {
		t.Errorf("gone on with, after %d updates: %v", g.updates, err)
	}
}

// More of the SDK's attempts are spent on it than the client has for others.
func TestIssuedIsStoredThroughThrottling(t *testing.T) {
	w, g := newRegistrationWorld(t)
	g.hideSecret = true // who loses it can't read it again
	defer w.aws.Throttle("PutSecretValue", 2)()
	if _, err := w.rotator(w.registration(g)).Rotate(t.Context(), secretName); err != nil {
		t.Fatal(err)
	}
	if g.updates != 1 || w.secret(awsfake.Current) != g.secret {
		t.Errorf("%d updates, current %s", g.updates, w.secret(awsfake.Current))
	}
}

// An update that went through and was not stored is found when the registration
// is read again: no second one is asked for.
func TestIssuedButNotStored(t *testing.T) {
	w, g := newRegistrationWorld(t)
	r := w.rotator(w.registration(g))
	deny := w.aws.Deny("PutSecretValue", "")
	_, err := r.Rotate(t.Context(), secretName)
	if !errors.Is(err, smartcred.ErrDenied) || !strings.Contains(err.Error(), "run createSecret for this version again at once") {
		t.Error(err)
	}
	w.noLeak(err.Error(), append(g.tokens(), g.secret)...)
	deny()
	if _, err := r.Rotate(t.Context(), secretName); err != nil {
		t.Fatal(err)
	}
	if g.updates != 1 || w.secret(awsfake.Current) != g.secret || !slices.Contains(g.tokens(), w.member(awsfake.Current, "registration_access_token")) {
		t.Errorf("%d updates, current %s", g.updates, w.secret(awsfake.Current))
	}
}
