package secretrotator_test

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
)

// Each step runs twice in a row, as Lambda's own retries do.
func TestEachStepMayRunAgain(t *testing.T) {
	w := newWorld(t, "", firstValue)
	service := newHookService(t, w.ehr)
	r := w.rotator(w.hook(service, nil))
	version := w.begin()
	before := w.aws.Version(secretName, awsfake.Current)
	var made string
	for _, step := range secretrotator.Steps {
		for range 2 {
			if err := w.invoke(r, step, version); err != nil {
				t.Fatal(err)
			}
			stage := awsfake.Pending
			if step == secretrotator.StepFinish {
				stage = awsfake.Current
			}
			switch value := w.secret(stage); {
			case made == "":
				made = value
			case value != made:
				t.Errorf("%s made another secret", step)
			}
			if current := w.aws.Version(secretName, awsfake.Current); (current == version) != (step == secretrotator.StepFinish) {
				t.Errorf("after %s AWSCURRENT is %s", step, current)
			}
		}
	}
	if w.aws.Version(secretName, awsfake.Previous) != before || w.secret(awsfake.Previous) != firstValue || w.secret(awsfake.Current) != made {
		t.Error("the labels did not move")
	}
	if got, want := service.requests(), 2; got != want {
		t.Errorf("the hook was asked %d times, want %d", got, want)
	}
	// A step that comes late is done with.
	calls := w.aws.Calls("PutSecretValue")
	if err := w.invokeAll(r, version); err != nil || w.aws.Calls("PutSecretValue") != calls || service.requests() != 2 {
		t.Errorf("a finished version was worked at: %v", err)
	}
	w.noLeak(w.log.String(), made)
	if !strings.Contains(w.log.String(), version) {
		t.Error("the log does not name the version")
	}
}

func TestMadeSecrets(t *testing.T) {
	form := regexp.MustCompile(`^[A-Za-z0-9._-]{43}$`)
	seen := map[string]bool{}
	used := map[rune]bool{}
	for range 50 {
		w := newWorld(t, "", firstValue)
		r := w.rotator(w.hook(newHookService(t, w.ehr), nil))
		if err := w.invoke(r, secretrotator.StepCreate, w.begin()); err != nil {
			t.Fatal(err)
		}
		secret := w.secret(awsfake.Pending)
		if !form.MatchString(secret) || seen[secret] {
			t.Errorf("made %q", secret)
		}
		seen[secret] = true
		for _, c := range secret {
			used[c] = true
		}
		w.aws.Close()
		w.ehr.Close()
	}
	if len(used) != 65 {
		t.Errorf("%d different characters in 2150, want 65", len(used))
	}
}

func TestWhatAWSAsksOfAFunction(t *testing.T) {
	w := newWorld(t, "", firstValue)
	r := w.rotator(w.hook(newHookService(t, w.ehr), nil))
	unknown := "00000000-0000-4000-8000-000000000000"
	fails := func(name string, err error, is error, says string) {
		t.Helper()
		// Lambda's own path keeps the text only; the error itself is Handle's.
		if err == nil || !errors.Is(err, is) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	handle := func(step secretrotator.Step, version string) error {
		return r.Handle(t.Context(), secretrotator.Event{Step: step, SecretID: w.arn, ClientRequestToken: version})
	}
	fails("not enabled", handle(secretrotator.StepCreate, unknown), smartcred.ErrInvalidConfig, "rotation is not enabled")
	version := w.begin()
	fails("no such version", handle(secretrotator.StepCreate, unknown), smartcred.ErrNotFound, unknown)
	fails("no such step", handle("deleteSecret", version), smartcred.ErrInvalidConfig, "createSecret, setSecret, testSecret, finishSecret")
	fails("no version", handle(secretrotator.StepCreate, ""), smartcred.ErrInvalidConfig, "ClientRequestToken")
	for _, step := range secretrotator.Steps[1:] {
		fails("no value", handle(step, version), smartcred.ErrNotFound, "AWSPENDING")
	}
	if err := handle(secretrotator.StepCreate, version); err != nil {
		t.Fatal(err)
	}
	other := w.aws.StageSecret(secretName, "another", awsfake.Pending)
	fails("without a label", handle(secretrotator.StepFinish, version), smartcred.ErrNotFound, "another took its place")
	w.aws.MoveStage(secretName, "MINE", version)
	fails("not pending", handle(secretrotator.StepFinish, version), smartcred.ErrInvalidConfig, "not staged AWSPENDING")
	if err := handle(secretrotator.StepFinish, other); err != nil {
		t.Fatal(err)
	}
	if w.secret(awsfake.Current) != "another" {
		t.Error("the pending version did not become current")
	}
	fails("no such secret", r.Handle(t.Context(), secretrotator.Event{Step: secretrotator.StepCreate, SecretID: "other", ClientRequestToken: version}), smartcred.ErrNotFound, "describe the secret")
	w.aws.DeleteSecret(secretName)
	fails("deleted", handle(secretrotator.StepCreate, version), smartcred.ErrNotFound, "about to be deleted")
	var store *secretrotator.StoreError
	if err := handle(secretrotator.StepCreate, version); !errors.As(err, &store) {
		t.Errorf("no StoreError: %v", err)
	}
	if !strings.Contains(w.log.String(), "rotation step failed") {
		t.Error("a failure is not in the log")
	}
}

// A server that refuses the new secret keeps the old one in use.
func TestRefusedIsNotFinished(t *testing.T) {
	w := newWorld(t, "", firstValue)
	lying := setterFunc(func(context.Context, secretrotator.Change) error { return nil })
	r := w.rotator(lying)
	version := w.begin()
	var err error
	for _, step := range secretrotator.Steps[:3] {
		err = r.Handle(t.Context(), secretrotator.Event{Step: step, SecretID: w.arn, ClientRequestToken: version})
	}
	if !errors.Is(err, secretrotator.ErrRefused) || !strings.Contains(err.Error(), "nothing was finished") || !strings.Contains(err.Error(), version) {
		t.Errorf("testSecret: %v", err)
	}
	if w.secret(awsfake.Current) != firstValue {
		t.Error("AWSCURRENT moved")
	}
	if n := w.ehr.TokenRequests(); n != 1 {
		t.Errorf("%d token requests, want 1: servers lock accounts", n)
	}
	w.noLeak(err.Error() + w.log.String())
	// A real setter, and it goes on with the same secret.
	pending := w.secret(awsfake.Pending)
	r = w.rotator(w.hook(newHookService(t, w.ehr), nil))
	if _, err := r.Rotate(t.Context(), secretName); err != nil {
		t.Fatal(err)
	}
	if w.secret(awsfake.Current) != pending {
		t.Error("another secret was made")
	}
}

type setterFunc func(context.Context, secretrotator.Change) error

func (f setterFunc) Set(ctx context.Context, c secretrotator.Change) error { return f(ctx, c) }

func TestByHand(t *testing.T) {
	w := newWorld(t, "", firstValue)
	r := w.rotator(w.hook(newHookService(t, w.ehr), nil))
	if _, err := r.RunStep(t.Context(), secretrotator.StepSet, secretName, ""); !errors.Is(err, smartcred.ErrNotFound) || !strings.Contains(err.Error(), "createSecret comes first") {
		t.Errorf("setSecret without a pending version: %v", err)
	}
	var versions []string
	for _, step := range secretrotator.Steps {
		version, err := r.RunStep(t.Context(), step, secretName, "")
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, version)
	}
	for _, version := range versions {
		if version != w.aws.Version(secretName, awsfake.Current) {
			t.Errorf("steps worked at %v", versions)
		}
	}
	if version := w.aws.Version(secretName, awsfake.Pending); version != "" {
		t.Errorf("%s is still staged AWSPENDING", version)
	}
	if _, err := r.RunStep(t.Context(), secretrotator.StepFinish, secretName, versions[0]); err != nil {
		t.Errorf("finishSecret again: %v", err)
	}
	if _, err := r.RunStep(t.Context(), secretrotator.StepFinish, secretName, ""); !errors.Is(err, smartcred.ErrNotFound) || !strings.Contains(err.Error(), "after finishSecret there is none") {
		t.Errorf("finishSecret again, of no version: %v", err)
	}
	again, err := r.Rotate(t.Context(), w.arn)
	if err != nil || again == versions[0] || w.aws.Version(secretName, awsfake.Previous) != versions[0] {
		t.Errorf("rotated to %s: %v", again, err)
	}
}

// What was current once is not gone back to: a label AWSPENDING that a finished
// rotation left on it is no rotation that has begun.
func TestFinishedIsNotPending(t *testing.T) {
	tests := []struct {
		name   string
		finish func(w *world, r *secretrotator.Rotator, version string)
	}{
		{"finished here", func(w *world, r *secretrotator.Rotator, version string) {
			if err := w.invoke(r, secretrotator.StepFinish, version); err != nil {
				w.t.Fatal(err)
			}
		}},
		{"finished, and run again", func(w *world, r *secretrotator.Rotator, version string) {
			w.aws.MoveStage(secretName, awsfake.Current, version)
			if err := w.invoke(r, secretrotator.StepFinish, version); err != nil {
				w.t.Fatal(err)
			}
		}},
		{"finished by another function, which leaves the label", func(w *world, _ *secretrotator.Rotator, version string) {
			w.aws.MoveStage(secretName, awsfake.Current, version)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "", firstValue)
			r := w.rotator(w.hook(newHookService(t, w.ehr), nil))
			version := w.begin()
			for _, step := range secretrotator.Steps[:3] {
				if err := w.invoke(r, step, version); err != nil {
					t.Fatal(err)
				}
			}
			test.finish(w, r, version)
			leaked := w.secret(awsfake.Current)
			w.aws.PutSecret(secretName, "put by hand, because the other one leaked")
			if w.aws.Version(secretName, awsfake.Pending) == version {
				if err := w.invoke(r, secretrotator.StepFinish, version); err == nil || !strings.Contains(err.Error(), "AWSPREVIOUS") {
					t.Errorf("finishSecret of a version that was current: %v", err)
				}
			}
			if _, err := r.Rotate(t.Context(), secretName); err != nil {
				t.Fatal(err)
			}
			if w.secret(awsfake.Current) == leaked {
				t.Error("the secret from before is current again")
			}
		})
	}
}

// The SDK sends a request again whose answer was lost. That it is refused then,
// because the label was moved by the first, is no failure.
func TestLostAnswerOfFinish(t *testing.T) {
	w := newWorld(t, "", firstValue)
	r := w.rotator(w.hook(newHookService(t, w.ehr), nil))
	version := w.begin()
	for _, step := range secretrotator.Steps[:3] {
		if err := w.invoke(r, step, version); err != nil {
			t.Fatal(err)
		}
	}
	api := &movingAPI{SecretsManager: w.sdk(), move: func() { w.aws.MoveStage(secretName, awsfake.Current, version) }}
	r, err := secretrotator.New(api, setterFunc(nil), secretrotator.TesterFunc(nil), &secretrotator.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.invoke(r, secretrotator.StepFinish, version); err != nil {
		t.Error(err)
	}
}

// A label that somebody moved between reading and moving it stays theirs.
func TestMovedMeanwhile(t *testing.T) {
	w := newWorld(t, "", firstValue)
	r := w.rotator(w.hook(newHookService(t, w.ehr), nil))
	version := w.begin()
	for _, step := range secretrotator.Steps[:3] {
		if err := w.invoke(r, step, version); err != nil {
			t.Fatal(err)
		}
	}
	api := &movingAPI{SecretsManager: w.sdk(), move: func() { w.aws.PutSecret(secretName, "by hand") }}
	r, err := secretrotator.New(api, setterFunc(nil), secretrotator.TesterFunc(nil), &secretrotator.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Handle(t.Context(), secretrotator.Event{Step: secretrotator.StepFinish, SecretID: w.arn, ClientRequestToken: version})
	if !errors.Is(err, smartcred.ErrInvalidConfig) || w.secret(awsfake.Current) != "by hand" {
		t.Errorf("finishSecret: %v, current %q", err, w.secret(awsfake.Current))
	}
}

type movingAPI struct {
	secretrotator.SecretsManager
	move func()
}

func (a *movingAPI) UpdateSecretVersionStage(ctx context.Context, in *secretsmanager.UpdateSecretVersionStageInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.UpdateSecretVersionStageOutput, error) {
	a.move()
	return a.SecretsManager.UpdateSecretVersionStage(ctx, in, opts...)
}

func TestValuesThatCantBeRotated(t *testing.T) {
	tests := []struct{ name, field, value, says string }{
		{"no JSON", "client_secret", firstValue, "no JSON object"},
		{"an object without a field", "", `{"client_secret": "` + firstValue + `", "other": "x"}`, "name its member"},
		{"no member", "client_secret", `{"other": "x"}`, `"client_secret"`},
		{"no string", "client_secret", `{"client_secret": 1}`, `"client_secret"`},
		{"empty", "client_secret", `{"client_secret": ""}`, `"client_secret"`},
		{"a newline", "", "\n", "is empty"},
		{"twice", "client_secret", `{"client_secret": "a", "client_secret": "b"}`, "twice"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "", test.value)
			w.field = test.field
			r := w.rotator(w.hook(newHookService(t, w.ehr), nil))
			_, err := r.Rotate(t.Context(), secretName)
			if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), test.says) {
				t.Error(err)
			}
			if w.aws.Calls("PutSecretValue") != 0 {
				t.Error("something was stored")
			}
		})
	}
	t.Run("binary", func(t *testing.T) {
		w := newWorld(t, "", "")
		w.aws.CreateBinarySecret("binary", []byte{1})
		r := w.rotator(w.hook(newHookService(t, w.ehr), nil))
		if _, err := r.Rotate(t.Context(), "binary"); !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "binary") {
			t.Error(err)
		}
	})
}

// Who stages the value that is there already would have nothing rotated, with all
// steps done.
func TestSameSecretIsNoRotation(t *testing.T) {
	w := newWorld(t, "", firstValue)
	service := newHookService(t, w.ehr)
	r := w.rotator(w.hook(service, nil))
	version := w.aws.StageSecret(secretName, firstValue+"\n", awsfake.Pending)
	_, err := r.Rotate(t.Context(), secretName)
	if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), version+" has the client secret that AWSCURRENT has") {
		t.Error(err)
	}
	if service.requests() != 0 || w.aws.Version(secretName, awsfake.Pending) != version {
		t.Error("it went on")
	}
}

// A value that was typed ends in a newline, which is no part of the secret.
func TestTypedValue(t *testing.T) {
	w := newWorld(t, "", firstValue+"\n")
	service := newHookService(t, w.ehr)
	r := w.rotator(w.hook(service, &secretrotator.HookOptions{SendCurrent: true}))
	if _, err := r.Rotate(t.Context(), secretName); err != nil {
		t.Fatal(err)
	}
	if got := service.last["current_client_secret"]; got != firstValue {
		t.Errorf("the hook was sent %q as the current secret", got)
	}
}

func TestOtherMembersAreKept(t *testing.T) {
	const before = `{"first": 12345678901234567890, "client_secret": "` + firstValue + `", "html": "<&>", "last": {"a": [1, null]}}`
	w := newWorld(t, "client_secret", before)
	r := w.rotator(w.hook(newHookService(t, w.ehr), nil))
	if _, err := r.Rotate(t.Context(), secretName); err != nil {
		t.Fatal(err)
	}
	want := `{"first":12345678901234567890,"client_secret":"` + w.secret(awsfake.Current) + `","html":"<&>","last":{"a": [1, null]}}`
	if got := w.aws.SecretString(secretName, awsfake.Current); got != want || w.secret(awsfake.Current) == firstValue {
		t.Errorf("the value is %s", got)
	}
	if w.aws.SecretString(secretName, awsfake.Previous) != before {
		t.Error("the previous value changed")
	}
}

func TestNewSaysAllThatIsWrong(t *testing.T) {
	_, err := secretrotator.New(nil, nil, nil, &secretrotator.Options{Length: 42})
	for _, option := range []string{"api", "setter", "tester", "length"} {
		if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), option+": ") {
			t.Errorf("%s is not in %v", option, err)
		}
	}
}
