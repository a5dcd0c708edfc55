package signer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/smartcred/smartcred"
)

// errRevoked is a revocation by configuration: to the caller the key is not there.
var errRevoked = fmt.Errorf("revoked by configuration: %w", smartcred.ErrNotFound)

// errPrevious is one too, of every key but the current one.
var errPrevious = fmt.Errorf("no longer current, and previous is never used: %w", errRevoked)

// admit decides which of the listed keys may be used. Others are reported once,
// until the reason changes. Of keys that claim one name, one that is ready counts
// before a staged one, which may be a mistake of today. No key left is an error
// with all reasons. k.mu is held.
func (k *KeySet) admit(now time.Time) ([]*entry, []smartcred.Event, error) {
	var entries []*entry
	var events []smartcred.Event
	var reasons []error
	reported := map[string]string{}
	leaveOut := func(e *entry, why error) {
		reasons = append(reasons, fmt.Errorf("key %q: %w", e.key.Version, why))
		subject := e.thumb
		if subject == "" {
			subject = "version " + e.key.Version
		}
		reported[subject] = why.Error()
		if k.reported[subject] == why.Error() {
			return
		}
		kind := smartcred.EventKeyLeftOut
		if errors.Is(why, errRevoked) {
			kind = smartcred.EventKeyRevoked
		}
		events = append(events, k.event(kind, e.key, "", why))
	}

	seen := map[string]bool{}
	for _, i := range readyFirst(k.list, now) {
		e := &entry{key: k.list[i], listed: k.list[i], place: i}
		if err := e.key.Check(); err != nil {
			leaveOut(e, err)
			continue
		}
		thumb, err := Thumbprint(e.key.Public)
		if err != nil {
			leaveOut(e, err)
			continue
		}
		if seen[thumb] {
			continue // one key under two names is one key
		}
		seen[thumb] = true
		e.thumb = thumb
		if e.key.ID == "" {
			e.key.ID = thumb
		}
		if err := k.refusal(e); err != nil {
			leaveOut(e, err)
			continue
		}
		entries = append(entries, e)
	}

	entries, err := k.nameSingle(entries, leaveOut)
	if err != nil {
		k.reported = reported
		return nil, events, err
	}
	usable := entries[:0]
	versions, kids := map[string]bool{}, map[string]bool{}
	for _, e := range entries {
		switch {
		case k.revoked[e.key.ID]:
			leaveOut(e, errRevoked)
		case len(k.opts.AllowedKIDs) > 0 && !slices.Contains(k.opts.AllowedKIDs, e.key.ID):
			leaveOut(e, &smartcred.ConfigError{Option: "allowed_kids", Problem: fmt.Sprintf("kid %q is not among them", e.key.ID)})
		case kids[e.key.ID]:
			leaveOut(e, &smartcred.ConfigError{Problem: fmt.Sprintf("kid %q is another key's too", e.key.ID)})
		case versions[e.key.Version]:
			leaveOut(e, &smartcred.ConfigError{Problem: fmt.Sprintf("version %q is another key's too", e.key.Version)})
		default:
			kids[e.key.ID], versions[e.key.Version] = true, true
			usable = append(usable, e)
		}
	}
	slices.SortFunc(usable, func(a, b *entry) int { return a.place - b.place })
	if k.opts.WithoutPrevious {
		usable = withoutPrevious(usable, now, leaveOut)
	}
	k.reported = reported
	k.remember(usable)
	if len(usable) == 0 {
		return nil, events, fmt.Errorf("signer: no usable key: %w", errors.Join(reasons...))
	}
	return usable, events, nil
}

// withoutPrevious leaves out what stands behind the current key of its algorithm.
func withoutPrevious(entries []*entry, now time.Time, leaveOut func(*entry, error)) []*entry {
	current := map[Algorithm]bool{}
	return slices.DeleteFunc(entries, func(e *entry) bool {
		if current[e.key.Algorithm] {
			leaveOut(e, errPrevious)
			return true
		}
		current[e.key.Algorithm] = !e.key.NotBefore.After(now)
		return false
	})
}

// readyFirst returns the places of the keys in list, staged ones last.
func readyFirst(list []Key, now time.Time) []int {
	var ready, staged []int
	for i, key := range list {
		if key.NotBefore.After(now) {
			staged = append(staged, i)
		} else {
			ready = append(ready, i)
		}
	}
	return append(ready, staged...)
}

// refusal says why the options keep a key out, whatever other keys there are.
func (k *KeySet) refusal(e *entry) error {
	switch {
	case k.revoked[e.key.Version] || k.revoked[e.key.ID] || k.revoked[e.thumb]:
		return errRevoked
	case len(k.opts.Algorithms) > 0 && !slices.Contains(k.opts.Algorithms, e.key.Algorithm):
		return fmt.Errorf("%w: %s is not among those allowed", smartcred.ErrUnsupportedAlgorithm, e.key.Algorithm)
	case k.opts.RequireNonExportable && !e.key.Custody.NonExportable():
		return &smartcred.ConfigError{Option: "require_non_exportable", Problem: fmt.Sprintf(
			"the key is %s (%s)", e.key.Custody.Level, e.key.Custody.Evidence)}
	default:
		return nil
	}
}

// nameSingle applies KeyID, which only a single key can have.
func (k *KeySet) nameSingle(entries []*entry, leaveOut func(*entry, error)) ([]*entry, error) {
	if k.opts.KeyID == "" || len(entries) == 0 {
		return entries, nil
	}
	chosen := entries[0]
	if len(entries) > 1 {
		i := slices.IndexFunc(entries, func(e *entry) bool { return e.thumb == k.pinned })
		if i < 0 {
			several := &smartcred.ConfigError{Option: "key_id", Problem: fmt.Sprintf(
				"%q can name one key only, and there are %d: leave it out, and each key goes by its own kid", k.opts.KeyID, len(entries))}
			for _, e := range entries {
				leaveOut(e, several)
			}
			return nil, fmt.Errorf("signer: list keys: %w", several)
		}
		chosen = entries[i]
		for _, e := range entries {
			if e != chosen {
				leaveOut(e, &smartcred.ConfigError{Option: "key_id", Problem: "names the key that was there first"})
			}
		}
	}
	k.pinned = chosen.thumb
	chosen.key.ID = k.opts.KeyID
	return []*entry{chosen}, nil
}

// remember gives entries their state and drops the state of keys that are gone.
func (k *KeySet) remember(entries []*entry) {
	for _, e := range entries {
		if k.states[e.thumb] == nil {
			k.states[e.thumb] = &keyState{}
		}
		e.state = k.states[e.thumb]
	}
	maps.DeleteFunc(k.states, func(thumb string, _ *keyState) bool {
		return !slices.ContainsFunc(entries, func(e *entry) bool { return e.thumb == thumb })
	})
}
