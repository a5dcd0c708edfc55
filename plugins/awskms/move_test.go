package awskms_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/signer"
)

// A moving alias, and a signer that has signed with the key it stood for.
func newMoved(t *testing.T, query string) (aws *awsfake.Server, s signer.Signer, seen *events, first, second string) {
	t.Helper()
	aws, seen = start(t, nil), new(events)
	first, second = aws.CreateKey(awsfake.Key{}), aws.CreateKey(awsfake.Key{})
	aws.SetAlias("alias/smart", first)
	s = open(t, "awskms:///alias/smart"+strings.ReplaceAll(query, "SECOND", second), seen)
	closeAtEnd(t, s)
	if err := sign(t, s, first); err != nil {
		t.Fatal(err)
	}
	return aws, s, seen, first, second
}

func TestMovedAliasKeepsWhatSignedBefore(t *testing.T) {
	aws, s, seen, first, second := newMoved(t, "")
	aws.SetAlias("alias/smart", second)
	for range 3 {
		if got, want := versions(t, s), second+", "+first; got != want {
			t.Errorf("lists %s, want %s", got, want)
		}
		for _, version := range []string{second, first} {
			if err := sign(t, s, version); err != nil {
				t.Error(err)
			}
		}
	}
	told := seen.take()
	if len(told) != 1 || told[0].Kind != smartcred.EventKeyUnannounced || told[0].Version != second {
		t.Errorf("events %+v", told)
	}
	// A third one: what signed before it is kept, and no more.
	third := aws.CreateKey(awsfake.Key{})
	aws.SetAlias("alias/smart", third)
	if err := sign(t, s, third); err != nil {
		t.Fatal(err)
	}
	if got, want := versions(t, s), third+", "+second; got != want {
		t.Errorf("lists %s, want %s", got, want)
	}
	// And back again, as an alias does while AWS spreads it.
	aws.SetAlias("alias/smart", second)
	if got, want := versions(t, s), second+", "+third; got != want {
		t.Errorf("moved back: lists %s, want %s", got, want)
	}
}

// A program that runs on is told that an alias alone has no next key, once.
func TestAliasAlone(t *testing.T) {
	for query, want := range map[string]int{"": 1, "?next=SECOND": 0, "?previous=SECOND": 0} {
		_, s, seen, _, _ := newMoved(t, query)
		if told := seen.take(); len(told) != 0 {
			t.Errorf("%q: after the first list: %+v", query, told)
		}
		for range 3 {
			versions(t, s)
		}
		if told := seen.take(); len(told) != want || want == 1 && (told[0].Kind != smartcred.EventKeyUnannounced || !strings.Contains(told[0].Detail, "next=")) {
			t.Errorf("%q: %+v", query, told)
		}
	}
}

func TestMovedAliasThatWasAnnounced(t *testing.T) {
	aws, s, seen, first, second := newMoved(t, "?next=SECOND")
	aws.SetAlias("alias/smart", second)
	if got, want := versions(t, s), second+", "+first; got != want {
		t.Errorf("lists %s, want %s", got, want)
	}
	if told := seen.take(); len(told) != 0 {
		t.Errorf("events %+v", told)
	}
}

// Three aliases, of which two are there only while there are such keys: a whole
// rotation with nothing but moves, and nothing to warn of.
func TestRotationByThreeAliases(t *testing.T) {
	aws, seen := start(t, nil), new(events)
	first, second := aws.CreateKey(awsfake.Key{}), aws.CreateKey(awsfake.Key{})
	aws.SetAlias("alias/smart", first)
	s := open(t, "awskms:///alias/smart?next=alias/smart-next&previous=alias/smart-previous", seen)
	closeAtEnd(t, s)
	for _, step := range []struct {
		alias, key, want string
	}{
		{"alias/smart", first, first},
		{"alias/smart-next", second, "next " + second + ", " + first},
		{"alias/smart", second, second + ", " + first},
		{"alias/smart-previous", first, second + ", " + first},
	} {
		aws.SetAlias(step.alias, step.key)
		if got := versions(t, s); got != step.want {
			t.Errorf("%s moved to %s: lists %s, want %s", step.alias, step.key, got, step.want)
		}
		keys, err := s.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if err := sign(t, s, k.Version); err != nil {
				t.Error(err)
			}
		}
	}
	if told := seen.take(); len(told) != 0 {
		t.Errorf("events %+v", told)
	}
}

// Rights that are not there yet, a key that is of no use: what works goes on.
func TestMovedAliasWhoseKeyCannotSign(t *testing.T) {
	for name, c := range map[string]struct {
		spoil     func(aws *awsfake.Server, second string) (mend func())
		published bool // although it can't sign
	}{
		"may not sign":          {func(aws *awsfake.Server, second string) func() { return aws.Deny("Sign", second) }, true},
		"may not be looked at":  {func(aws *awsfake.Server, second string) func() { return aws.Deny("", second) }, false},
		"public half is denied": {func(aws *awsfake.Server, second string) func() { return aws.Deny("GetPublicKey", second) }, false},
		"disabled": {func(aws *awsfake.Server, second string) func() {
			aws.SetKeyState(second, awsfake.Disabled)
			return func() { aws.SetKeyState(second, awsfake.Enabled) }
		}, false},
		"signs wrongly": {func(aws *awsfake.Server, second string) func() {
			return aws.Inject(awsfake.Fault{Operation: "Sign", Times: 2, Change: func(m map[string]any) { m["Signature"] = "MAYCAQECAQE=" }})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			aws, s, seen, first, second := newMoved(t, "")
			mend := c.spoil(aws, second)
			aws.SetAlias("alias/smart", second)
			want := first
			if c.published {
				want = "next " + second + ", " + first
			}
			for range 2 {
				if got := versions(t, s); got != want {
					t.Errorf("lists %s, want %s", got, want)
				}
			}
			told := 0
			for _, e := range seen.take() {
				if e.Kind == smartcred.EventKeyLeftOut {
					told++
					if !strings.Contains(e.Detail, "stays current") || e.Err == nil {
						t.Errorf("event %+v", e)
					}
				}
			}
			if told != 1 {
				t.Errorf("it was told %d times, want once", told)
			}
			mend()
			if got, want := versions(t, s), second+", "+first; got != want {
				t.Errorf("mended: lists %s, want %s", got, want)
			}
			if err := sign(t, s, second); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is revoked does not stay: the key itself, or the name.
func TestRevokedKeyDoesNotStay(t *testing.T) {
	t.Run("disabled", func(t *testing.T) {
		aws, s, seen, first, _ := newMoved(t, "")
		aws.SetKeyState(first, awsfake.Disabled)
		_, err := s.Keys(t.Context())
		if !errors.Is(err, smartcred.ErrDenied) || !strings.Contains(err.Error(), "the key is disabled") || !strings.Contains(err.Error(), first) {
			t.Errorf("got %v", err)
		}
		if told := seen.take(); len(told) != 1 || told[0].Kind != smartcred.EventKeyLeftOut || told[0].BackendCorrelationID == "" {
			t.Errorf("events %+v", told)
		}
	})
	t.Run("deleted alias", func(t *testing.T) {
		aws, s, _, _, second := newMoved(t, "")
		aws.SetAlias("alias/smart", second) // so that there is a former key too
		if err := sign(t, s, second); err != nil {
			t.Fatal(err)
		}
		aws.DeleteKey(second)
		if _, err := s.Keys(t.Context()); !errors.Is(err, smartcred.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("disabled, and a next one is named", func(t *testing.T) {
		aws, s, _, first, second := newMoved(t, "?next=SECOND")
		aws.SetKeyState(first, awsfake.Disabled)
		if got, want := versions(t, s), "next "+second; got != want {
			t.Errorf("lists %s, want %s", got, want)
		}
	})
	t.Run("former one", func(t *testing.T) {
		aws, s, _, first, second := newMoved(t, "")
		aws.SetAlias("alias/smart", second)
		if err := sign(t, s, second); err != nil {
			t.Fatal(err)
		}
		aws.SetKeyState(first, awsfake.PendingDeletion)
		if got := versions(t, s); got != second {
			t.Errorf("lists %s, want %s", got, second)
		}
	})
}

// Behind a KeySet that uses no previous key, a move to a key without rights must
// not end signing either.
func TestMovedAliasWithoutPrevious(t *testing.T) {
	aws, s, _, first, second := newMoved(t, "")
	keys, err := signer.NewKeySet(s, &signer.KeySetOptions{WithoutPrevious: true, Observer: smartcred.Discard, Refresh: 1})
	if err != nil {
		t.Fatal(err)
	}
	for step, change := range []func(){func() {}, func() { aws.Deny("Sign", second); aws.SetAlias("alias/smart", second) }} {
		change()
		key, err := keys.Signing(t.Context(), nil)
		if err == nil {
			_, err = keys.Sign(t.Context(), key, []byte("header.claims"))
		}
		if err != nil || key.Version != first {
			t.Error(fmt.Errorf("step %d: %s signs: %w", step, key.Version, err))
		}
	}
}
