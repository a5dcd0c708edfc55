package signer

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/smartcred/smartcred"
)

// An entry is a key in use.
type entry struct {
	key    Key // as it is published and named in assertions
	listed Key // as the backend knows it
	place  int // in the backend's list
	thumb  string
	state  *keyState
	role   Role
}

// A view is what the list means at a time. It does not change once it is stored.
type view struct {
	entries   []*entry // all that are not left out, newest first
	ladder    []*entry // without the retired ones, in the order in which they are chosen
	published []Key
	body      []byte // the JWK Set; nil if there is none
	etag      string
	err       error     // why there is nothing to use
	outage    error     // why the backend can't be asked, while an old list serves on
	due       time.Time // when the backend is to be asked again
	until     time.Time // when this view stops being true of its list
}

// choose prefers keys that can sign to those that lately could not, keys whose
// time has come to staged ones, what the server takes to what it does not name,
// and then the order of the ladder.
func (v *view) choose(algorithms []string, now time.Time) *entry {
	var best *entry
	least := 8
	for _, e := range v.ladder {
		cost := 0
		if !e.state.ready(now) {
			cost += 4
		}
		if e.role == RoleNext {
			cost += 2
		}
		if !e.key.Algorithm.advertised(algorithms) {
			cost++
		}
		if cost < least {
			best, least = e, cost
		}
	}
	return best
}

func (v *view) find(key Key) *entry {
	for _, e := range v.entries {
		if e.role != RoleRetired && e.key.Version == key.Version && samePublic(e.key.Public, key.Public) {
			return e
		}
	}
	return nil
}

// plan makes and stores the view of k.list at now, and returns what changed.
// k.mu is held.
func (k *KeySet) plan(now time.Time) []smartcred.Event {
	v := &view{due: k.due, until: Unscheduled}
	defer k.view.Store(v)
	if k.outage != nil {
		expires := k.listed.Add(maxStale)
		if k.list == nil || !now.Before(expires) {
			k.list = nil
			v.err = fmt.Errorf("signer: list keys: %w", k.outage)
			return nil
		}
		v.outage, v.until = k.outage, expires
	}
	if k.list == nil {
		v.err = fmt.Errorf("signer: list keys: %w", k.answer)
		if !errors.Is(k.answer, smartcred.ErrNotFound) {
			return nil // the keys are not gone, they are out of reach
		}
		return k.changes(nil)
	}
	entries, events, err := k.admit(now)
	if err != nil {
		v.err = err
		return append(events, k.changes(nil)...)
	}
	v.entries = entries
	k.assignRoles(v, now)
	v.ladder = ladder(entries, now)
	if err := v.publish(); err != nil {
		v.err = err
	}
	return append(events, k.changes(entries)...)
}

// assignRoles gives each entry its place, by algorithm.
func (k *KeySet) assignRoles(v *view, now time.Time) {
	byAlgorithm := map[Algorithm][]*entry{}
	for _, e := range v.entries {
		byAlgorithm[e.key.Algorithm] = append(byAlgorithm[e.key.Algorithm], e)
	}
	at := func(t time.Time) bool { // t has come; if not, the view ends then
		if t.After(now) && t.Before(v.until) {
			v.until = t
		}
		return !t.After(now)
	}
	for _, keys := range byAlgorithm {
		current := len(keys)
		for i, e := range keys {
			if ready := at(e.key.NotBefore); ready && current == len(keys) {
				current = i
			}
		}
		for i, e := range keys {
			switch {
			case i < current:
				e.role = RoleNext
			case i == current:
				e.role = RoleCurrent
			case i == current+1:
				e.role = RolePrevious
			default:
				e.role = RoleOlder
				if since := start(keys[i-1]); !since.IsZero() && at(since.Add(retireAfter)) {
					e.role = RoleRetired
				}
			}
		}
		limit(keys)
	}
}

// start returns when a key took over; zero if nobody knows.
func start(e *entry) time.Time {
	t := e.key.NotBefore
	if first := e.state.firstSigned.Load(); first != 0 && time.Unix(0, first).After(t) {
		t = time.Unix(0, first)
	}
	return t
}

// limit retires what is over maxPublished: the oldest first, then the staged
// keys that are furthest from signing. The current key always stays.
func limit(keys []*entry) {
	rank := func(e *entry) int {
		return [...]int{RoleNext: 1, RoleCurrent: 0, RolePrevious: 2, RoleOlder: 3, RoleRetired: 4}[e.role]
	}
	byUse := slices.Clone(keys)
	slices.SortStableFunc(byUse, func(a, b *entry) int {
		if d := rank(a) - rank(b); d != 0 || a.role != RoleNext {
			return d
		}
		return a.key.NotBefore.Compare(b.key.NotBefore)
	})
	for i := maxPublished; i < len(byUse); i++ {
		byUse[i].role = RoleRetired
	}
}

// ladder orders entries for signing: current ones, other ready ones, and in an
// emergency staged ones, the oldest first. Those that are retired do not sign:
// no server finds them in the JWK Set.
func ladder(entries []*entry, now time.Time) []*entry {
	var current, ready, staged []*entry
	for _, e := range entries {
		switch {
		case e.role == RoleRetired:
		case e.role == RoleCurrent:
			current = append(current, e)
		case e.role != RoleNext && !e.key.NotBefore.After(now):
			ready = append(ready, e)
		default:
			staged = append(staged, e)
		}
	}
	slices.Reverse(staged)
	return slices.Concat(current, ready, staged)
}

// publish fills in what the JWK Set holds.
func (v *view) publish() error {
	shown := slices.DeleteFunc(slices.Clone(v.entries), func(e *entry) bool { return e.role == RoleRetired })
	slices.SortStableFunc(shown, func(a, b *entry) int { return int(a.role - b.role) })
	for _, e := range shown {
		v.published = append(v.published, e.key)
	}
	set, err := PublicJWKSet(v.published)
	if err != nil {
		return err
	}
	if v.body, err = json.Marshal(set); err != nil {
		return fmt.Errorf("signer: encode JWK Set: %w", err)
	}
	sum := sha256.Sum256(v.body)
	v.etag = `"` + b64(sum[:16]) + `"`
	return nil
}

// changes compares entries with what was known before and takes their place.
// k.mu is held.
func (k *KeySet) changes(entries []*entry) []smartcred.Event {
	var events []smartcred.Event
	now := make(map[string]*entry, len(entries))
	replaced := map[Algorithm]bool{} // algorithms whose previous key is another one now
	for _, e := range entries {
		now[e.thumb] = e
		if was := k.known[e.thumb]; e.role == RolePrevious && was != nil && was.role != RolePrevious {
			replaced[e.key.Algorithm] = true
		}
	}
	for _, thumb := range slices.Sorted(maps.Keys(k.known)) {
		was := k.known[thumb]
		switch {
		case now[thumb] != nil, was.role == RoleRetired, k.reported[thumb] != "":
		case was.role == RoleOlder || was.role == RolePrevious && replaced[was.key.Algorithm]:
			events = append(events, k.event(smartcred.EventKeyRetired, was.key, "the backend no longer lists it; its successors took over", nil))
		default:
			events = append(events, k.event(smartcred.EventKeyRevoked, was.key, "the backend no longer lists it", nil))
		}
	}
	for _, e := range entries {
		was := k.known[e.thumb]
		switch {
		case was == nil && e.role != RoleRetired:
			events = append(events, k.event(smartcred.EventKeyPublished, e.key, "", nil))
		case was != nil && was.role != RoleRetired && e.role == RoleRetired:
			events = append(events, k.event(smartcred.EventKeyRetired, e.key, "its successors took over", nil))
		}
		if e.role == RoleCurrent && (was == nil || was.role != RoleCurrent) {
			events = append(events, k.event(smartcred.EventKeyActivated, e.key, "", nil))
		}
	}
	k.known = now
	return events
}
