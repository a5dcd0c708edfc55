package signer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// A Role is a key's place in its life. Published keys are ordered by it.
type Role int

const (
	RoleNext     Role = iota // published, and not used yet
	RoleCurrent              // signs
	RolePrevious             // published, used where a server refuses the current one
	RoleOlder                // as previous, and about to leave the set
	RoleRetired              // out of the set, and never used
)

// String returns "next", "current", "previous", "older" or "retired".
func (r Role) String() string {
	switch r {
	case RoleNext:
		return "next"
	case RoleCurrent:
		return "current"
	case RolePrevious:
		return "previous"
	case RoleOlder:
		return "older"
	default:
		return "retired"
	}
}

// A Candidate is a key that may sign for a server.
type Candidate struct {
	Key  Key
	Role Role
	// Thumbprint is the key's identity, RFC 7638.
	Thumbprint string
	// Usable is false for a key that lately could not sign, or whose signature
	// was wrong.
	Usable bool
	// Since is when the key became current, as far as is known; zero if not.
	Since time.Time
}

// Candidates returns the keys that may sign for a server that advertises
// algorithms (none: it does not say), in the order in which they are to be tried:
// the current key, the ones before it, other algorithms' current keys, and the
// staged ones, the oldest first. Where no key is current the first is the one
// that [KeySet.Signing] chooses. It returns no empty list without an error.
func (k *KeySet) Candidates(ctx context.Context, algorithms []string) ([]Candidate, error) {
	v, err := k.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("signer: list keys that may sign: %w", err)
	}
	now := time.Now()
	first := v.firstCurrent(algorithms)
	if first == nil {
		first = k.choose(ctx, v, algorithms)
	}
	order := []*entry{first}
	for _, e := range v.ladder {
		if e != first {
			order = append(order, e)
		}
	}
	rank := func(e *entry) int {
		switch {
		case e == first:
			return 0
		case e.role == RoleNext:
			return 3
		case e.key.Algorithm != first.key.Algorithm:
			return 2
		default:
			return 1
		}
	}
	slices.SortStableFunc(order, func(a, b *entry) int { return cmp.Compare(rank(a), rank(b)) })
	out := make([]Candidate, len(order))
	for i, e := range order {
		out[i] = Candidate{Key: e.key, Role: e.role, Thumbprint: e.thumb, Usable: e.state.ready(now)}
		if e.role == RoleCurrent {
			out[i].Since = e.key.NotBefore
		}
	}
	return out, nil
}

// Stale returns why the backend can't be asked, while its last list serves on;
// nil if it can.
func (k *KeySet) Stale() error {
	if v := k.view.Load(); v != nil {
		return v.outage
	}
	return nil
}

// firstCurrent returns the current key of the algorithm that the server
// advertises, else of any; nil if no key is current.
func (v *view) firstCurrent(algorithms []string) *entry {
	var any *entry
	for _, e := range v.ladder {
		if e.role != RoleCurrent {
			continue
		}
		if e.key.Algorithm.advertised(algorithms) {
			return e
		}
		if any == nil {
			any = e
		}
	}
	return any
}
