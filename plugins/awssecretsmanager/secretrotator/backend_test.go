package secretrotator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
)

// What goes wrong at Secrets Manager is told by kind, in bounded time, without a
// word of what came back; then the rotation is gone on with.
func TestSecretsManagerFails(t *testing.T) {
	tests := []struct {
		name   string
		breaks func(*awsfake.Server) (repair func())
		is     error
		says   string
	}{
		{"throttled", func(s *awsfake.Server) func() { return s.Throttle("", 0) }, smartcred.ErrUnavailable, "ThrottlingException"},
		{"denied", func(s *awsfake.Server) func() { return s.Deny("", "") }, smartcred.ErrDenied, "AccessDeniedException"},
		{"may not put", func(s *awsfake.Server) func() { return s.Deny("PutSecretValue", "") }, smartcred.ErrDenied, "put AWSPENDING"},
		{"may not move", func(s *awsfake.Server) func() { return s.Deny("UpdateSecretVersionStage", "") }, smartcred.ErrDenied, "move AWSCURRENT"},
		{"can't decrypt", func(s *awsfake.Server) func() { return s.FailDecryption(secretName) }, smartcred.ErrDenied, "DecryptionFailure"},
		{"expired credentials", func(s *awsfake.Server) func() {
			return s.Inject(awsfake.Fault{Error: &awsfake.Error{Status: 400, Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}})
		}, smartcred.ErrDenied, "have expired"},
		{"internal error", func(s *awsfake.Server) func() {
			return s.Inject(awsfake.Fault{Error: &awsfake.Error{Status: 500, Code: "InternalServiceError", Message: "x"}})
		}, smartcred.ErrUnavailable, "InternalServiceError"},
		{"down", (*awsfake.Server).Stop, smartcred.ErrUnavailable, "can't be reached"},
		{"garbage", func(s *awsfake.Server) func() { return s.Inject(awsfake.Fault{Garble: true}) }, smartcred.ErrUnavailable, ""},
		{"garbage as an error", func(s *awsfake.Server) func() { return s.Inject(awsfake.Fault{Garble: true, Status: 400}) }, smartcred.ErrUnavailable, ""},
		{"garbage for puts", func(s *awsfake.Server) func() {
			return s.Inject(awsfake.Fault{Operation: "PutSecretValue", Garble: true, Status: 400})
		}, smartcred.ErrUnavailable, "put AWSPENDING"},
		{"empty answers", func(s *awsfake.Server) func() { return s.Inject(awsfake.Fault{Answer: "{}"}) }, smartcred.ErrUnavailable, "incomplete"},
		{"empty values", func(s *awsfake.Server) func() {
			return s.Inject(awsfake.Fault{Operation: "GetSecretValue", Answer: "{}"})
		}, smartcred.ErrUnavailable, "incomplete"},
		{"empty puts", func(s *awsfake.Server) func() {
			return s.Inject(awsfake.Fault{Operation: "PutSecretValue", Answer: "{}"})
		}, smartcred.ErrUnavailable, "incomplete"},
		{"empty moves", func(s *awsfake.Server) func() {
			return s.Inject(awsfake.Fault{Operation: "UpdateSecretVersionStage", Answer: "{}"})
		}, smartcred.ErrUnavailable, "incomplete"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "", firstValue)
			r := w.rotator(w.hook(newHookService(t, w.ehr), nil))
			version := w.begin()
			repair := test.breaks(w.aws)
			var err error
			for _, step := range secretrotator.Steps {
				if err = r.Handle(t.Context(), secretrotator.Event{Step: step, SecretID: w.arn, ClientRequestToken: version, RotationToken: "rotation-token-not-a-real-one"}); err != nil {
					break
				}
			}
			var store *secretrotator.StoreError
			if !errors.Is(err, test.is) || !errors.As(err, &store) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v", err)
			}
			repair()
			w.noLeak(fmt.Sprint(err) + w.log.String())
			if err := w.invokeAll(r, version); err != nil {
				t.Fatal(err)
			}
			if w.secret(awsfake.Previous) != firstValue || !w.takes(w.secret(awsfake.Current)) {
				t.Error("not rotated after the repair")
			}
		})
	}
}

// A backend or server that does not answer holds nobody up past the context.
func TestStalled(t *testing.T) {
	w := newWorld(t, "", firstValue)
	r := w.rotator(w.hook(newHookService(t, w.ehr), nil))
	resume := w.aws.Inject(awsfake.Fault{Stall: true})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := r.Rotate(ctx, secretName)
		done <- err
	}()
	for w.aws.Calls("DescribeSecret") == 0 {
		time.Sleep(time.Millisecond) // the request is on its way
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on after its context ended")
	}
	resume()
}

// Nothing that a rotation holds prints.
func TestNothingPrints(t *testing.T) {
	w, g := newRegistrationWorld(t)
	registration := w.registration(g)
	hook := w.hook(newHookService(t, w.ehr), nil)
	var printed secretrotator.Value
	spy := &spyingIssuer{Registration: registration, saw: func(v secretrotator.Value) { printed = v }}
	r := w.rotator(spy)
	if _, err := r.Rotate(t.Context(), secretName); err != nil {
		t.Fatal(err)
	}
	event := secretrotator.Event{RotationToken: "rotation-token-not-a-real-one"}
	for _, v := range []any{printed, &printed, change, &change, event, &event, r, *r, hook, *hook, registration, *registration} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			w.noLeak(fmt.Sprintf(verb, v), g.tokens()...)
		}
		if text, err := json.Marshal(v); err == nil {
			w.noLeak(string(text), g.tokens()...)
		}
		var b strings.Builder
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
		w.noLeak(b.String(), g.tokens()...)
	}
}

type spyingIssuer struct {
	*secretrotator.Registration
	saw func(secretrotator.Value)
}

func (s *spyingIssuer) Issue(ctx context.Context, current secretrotator.Value, keep func(context.Context, secretrotator.Value) error) (secretrotator.Value, error) {
	v, err := s.Registration.Issue(ctx, current, keep)
	s.saw(v)
	return v, err
}
