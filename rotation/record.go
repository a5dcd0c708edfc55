package rotation

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// An id is the HMAC of a candidate's identity: comparable, and safe to keep.
type id [16]byte

// MarshalText implements [encoding.TextMarshaler].
func (i id) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, i[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (i *id) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(i) {
		return errors.New("rotation: an identity has another length")
	}
	_, err := hex.Decode(i[:], text)
	return err
}

// A record is what is known about one scope. Its JSON form is what a [Memory]
// keeps: it holds no value of a credential.
type record struct {
	Known   []known   `json:"known,omitempty"`   // credentials that were sent
	InForce id        `json:"in_force,omitzero"` // what the server took last
	Adopted *adoption `json:"adopted,omitempty"`
	Backoff *backoff  `json:"backoff,omitempty"`
	Refused []refusal `json:"refused,omitempty"` // of credentials that never worked, in the last 24 h
	Regular time.Time `json:"regular,omitzero"`  // the last of them
	Fresh   []refusal `json:"fresh,omitempty"`   // of new values beyond the budget, in the last hour
}

// known is what is known about a credential at this server.
type known struct {
	ID      id        `json:"id"`
	Version string    `json:"version,omitempty"`
	KeyID   string    `json:"kid,omitempty"`
	Worked  time.Time `json:"worked,omitzero"`
	Sent    time.Time `json:"sent,omitzero"`
	Row     int       `json:"refusals,omitempty"` // in a row
	Until   time.Time `json:"until,omitzero"`     // comes last until then
}

// adoption is a staged credential that serves in the place of the current one.
type adoption struct {
	ID   id `json:"id"`
	Over id `json:"over"` // the current one when it was adopted
}

type backoff struct {
	Until   time.Time     `json:"until"`
	Step    time.Duration `json:"step"`
	Current id            `json:"current"` // another current credential ends it
}

type refusal struct {
	ID id        `json:"id"`
	At time.Time `json:"at"`
}

// maxKnown is how many credentials a record remembers; the one sent longest ago
// is forgotten first. A source that has a new value at every look-up must not
// fill memory.
const maxKnown = 16

func (r *record) find(i id) *known {
	for n := range r.Known {
		if r.Known[n].ID == i {
			return &r.Known[n]
		}
	}
	return nil
}

// note returns the entry of i, made if there is none.
func (r *record) note(i id, version, keyID string, now time.Time) *known {
	k := r.find(i)
	if k == nil {
		if len(r.Known) >= maxKnown {
			oldest := 0
			for n := range r.Known {
				if r.Known[n].ID != r.InForce && (r.Known[oldest].ID == r.InForce || r.Known[n].Sent.Before(r.Known[oldest].Sent)) {
					oldest = n
				}
			}
			r.Known = slices.Delete(r.Known, oldest, oldest+1)
		}
		r.Known = append(r.Known, known{ID: i})
		k = &r.Known[len(r.Known)-1]
	}
	k.Version, k.KeyID, k.Sent = version, keyID, now
	return k
}

func (r *record) proven(i id) bool {
	k := r.find(i)
	return k != nil && !k.Worked.IsZero()
}

func (r *record) underRefusal(i id, now time.Time) bool {
	k := r.find(i)
	return k != nil && now.Before(k.Until)
}

// refused notes a refusal of i, which was sent by permission.
func (r *record) refused(p Policy, i id, version, keyID string, by permission, now time.Time) {
	k := r.note(i, version, keyID, now)
	k.Row++
	k.Until = now.Add(shorter(doubled(p.FirstRefusal, p.LastRefusal, k.Row)))
	if !k.Worked.IsZero() {
		return
	}
	r.trim(now)
	if by == asNewValue {
		r.Fresh = append(r.Fresh, refusal{i, now})
	} else {
		r.Refused = append(r.Refused, refusal{i, now})
		r.Regular = now
	}
}

// worked notes a success of i: its refusals are forgotten, and the back-off ends.
func (r *record) worked(i id, version, keyID string, now time.Time) {
	k := r.note(i, version, keyID, now)
	k.Worked, k.Row, k.Until = now, 0, time.Time{}
	r.InForce, r.Backoff = i, nil
	r.Refused = slices.DeleteFunc(r.Refused, func(x refusal) bool { return x.ID == i })
	r.Fresh = slices.DeleteFunc(r.Fresh, func(x refusal) bool { return x.ID == i })
}

// allRefused begins or lengthens the back-off.
func (r *record) allRefused(p Policy, current id, anyProven bool, now time.Time) {
	step := p.FirstBackoffUnproven
	if anyProven {
		step = p.FirstBackoff
	}
	if r.Backoff != nil && r.Backoff.Current == current {
		step = max(step, min(2*r.Backoff.Step, p.LastBackoff))
	}
	r.Backoff = &backoff{Until: now.Add(shorter(step)), Step: step, Current: current}
}

// trim forgets what no rule looks at any more.
func (r *record) trim(now time.Time) {
	old := func(age time.Duration) func(refusal) bool {
		return func(x refusal) bool { return now.Sub(x.At) >= age }
	}
	r.Refused = slices.DeleteFunc(r.Refused, old(24*time.Hour))
	r.Fresh = slices.DeleteFunc(r.Fresh, old(time.Hour))
}

// A permission says on what ground an unproven credential may be sent.
type permission int

const (
	forbidden permission = iota
	withinBudget
	asNewValue // the budget is spent, and this value was never sent
	asSpare    // the budget is spent, and none but new values went for an hour
)

// permit applies the budget to a credential that never worked at this server.
func (r *record) permit(p Policy, i id, now time.Time) permission {
	hour, day := r.refusals(now)
	fresh := 0
	for _, x := range r.Fresh {
		if now.Sub(x.At) < time.Hour {
			fresh++
		}
	}
	// What is kept back for the request an hour that remains is part of the
	// day's budget, so that the budget holds whatever happens.
	atOnce := p.DailyBudget - min(24, p.DailyBudget/2)
	switch {
	case hour < p.HourlyBudget && day < atOnce:
		return withinBudget
	case r.find(i) == nil && fresh < p.NewValues:
		return asNewValue
	case now.Sub(r.Regular) >= time.Hour && day < p.DailyBudget:
		return asSpare
	default:
		return forbidden
	}
}

// refusals counts those of the last hour and of the last 24.
func (r *record) refusals(now time.Time) (hour, day int) {
	for _, x := range r.Refused {
		if age := now.Sub(x.At); age < time.Hour {
			hour++
			day++
		} else if age < 24*time.Hour {
			day++
		}
	}
	return hour, day
}

func (r *record) clone() record {
	out := *r
	out.Known = slices.Clone(r.Known)
	out.Refused = slices.Clone(r.Refused)
	out.Fresh = slices.Clone(r.Fresh)
	if r.Adopted != nil {
		adopted := *r.Adopted
		out.Adopted = &adopted
	}
	if r.Backoff != nil {
		b := *r.Backoff
		out.Backoff = &b
	}
	return out
}

// shorter takes up to a fifth off d, at random, so that a fleet does not act at once.
func shorter(d time.Duration) time.Duration { return d - rand.N(d/5+1) }
