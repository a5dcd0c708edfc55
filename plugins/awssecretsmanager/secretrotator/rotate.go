package secretrotator

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"

	"github.com/smartcred/smartcred"
)

// Rotate runs all four steps in order, as Secrets Manager would; rotation need
// not be enabled. A version that is staged AWSPENDING already is gone on with:
// after a failure, calling Rotate again is what to do. It returns the version
// id that it worked at, also with an error of a step.
func (r *Rotator) Rotate(ctx context.Context, secretID string) (version string, err error) {
	version, err = r.pending(ctx, secretID)
	if err != nil {
		return "", err
	}
	if version == "" {
		version = newVersion()
	}
	for _, step := range Steps {
		if _, err := r.RunStep(ctx, step, secretID, version); err != nil {
			return version, err
		}
	}
	return version, nil
}

// RunStep runs one step by hand; rotation need not be enabled. An empty version
// stands for the one that is staged AWSPENDING or, for createSecret where there
// is none, for a new one. It returns the version id.
func (r *Rotator) RunStep(ctx context.Context, step Step, secretID, version string) (string, error) {
	if !slices.Contains(Steps, step) {
		return "", &smartcred.ConfigError{Option: "step", Problem: "secretrotator: is none of createSecret, setSecret, testSecret, finishSecret"}
	}
	if version == "" {
		var err error
		if version, err = r.pending(ctx, secretID); err != nil {
			return "", err
		}
	}
	if version == "" {
		if step != StepCreate {
			return "", fmt.Errorf("secretrotator: %s: %w", step, &StoreError{Op: "find the version staged AWSPENDING", Err: fmt.Errorf("%w: createSecret comes first; after finishSecret there is none either", smartcred.ErrNotFound)})
		}
		version = newVersion()
	}
	return version, r.step(ctx, Event{Step: step, SecretID: secretID, ClientRequestToken: version}, false)
}

// pending returns the version of a rotation that has begun and is not finished;
// empty if there is none. One that is AWSPREVIOUS was finished: functions may leave
// AWSPENDING on what they made current.
func (r *Rotator) pending(ctx context.Context, secretID string) (string, error) {
	secret, err := r.store.describe(ctx, secretID)
	if err != nil {
		return "", fmt.Errorf("secretrotator: rotate: %w", err)
	}
	for _, version := range slices.Sorted(maps.Keys(secret.stages)) {
		if secret.staged(version, stagePending) && !secret.staged(version, stageCurrent) && !secret.staged(version, stagePrevious) {
			return version, nil
		}
	}
	return "", nil
}

// newVersion returns a version id as Secrets Manager makes them: a UUID of
// version 4, RFC 9562 section 5.4.
func newVersion() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
