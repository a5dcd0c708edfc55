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
	Key     string    `json:"key,omitempty"`     // names the key of all ids here
	Known   []known   `json:"known,omitempty"`   // credentials that were sent
	InForce id        `json:"in_force,omitzero"` // what the server took last
	Adopted *adoption `json:"adopted,omitempty"`
	Backoff *backoff  `json:"backoff,omitempty"`
	Spent   *spent    `json:"spent,omitempty"` // nil where nothing was refused that never worked
}

// spent is what credentials that never worked at this server have used of the
// budget.
type spent struct {
	Refused []refusal `json:"refused,omitempty"` // in the last 24 h
	Regular time.Time `json:"regular,omitzero"`  // the last of them
	Fresh   []refusal `json:"fresh,omitempty"`   // of new values beyond the budget, in the last hour
	Codes   []refusal `json:"codes,omitempty"`   // of calls with a single-use grant, in the last 24 h
}

// budget is what is spent, for reading.
func (r *record) budget() *spent {
	if r.Spent == nil {
		return new(spent)
	}
	return r.Spent
}

// spend is what is spent, for adding to it.
func (r *record) spend() *spent {
	if r.Spent == nil {
		r.Spent = new(spent)
	}
	return r.Spent
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
	ID  id        `json:"id"`
	At  time.Time `json:"at"`
	New bool      `json:"new,omitempty"` // in Codes: beyond the budget, as Fresh
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

// workedSince reports whether i was taken after t.
func (r *record) workedSince(i id, t time.Time) bool {
	k := r.find(i)
	return k != nil && k.Worked.After(t)
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
		r.spend().Fresh = append(r.spend().Fresh, refusal{ID: i, At: now})
	} else {
		r.spend().Refused = append(r.spend().Refused, refusal{ID: i, At: now})
		r.spend().Regular = now
	}
}

// worked notes a success of i: its refusals are forgotten, and the back-off ends.
func (r *record) worked(i id, version, keyID string, now time.Time) {
	k := r.note(i, version, keyID, now)
	k.Worked, k.Row, k.Until = now, 0, time.Time{}
	r.InForce, r.Backoff = i, nil
	r.strike(func(x refusal) bool { return x.ID == i }, func(x refusal) bool { return x.ID == i })
}

// refusedCode notes that i, which never worked, was refused in a call with a
// single-use grant: it counts in the budget of such calls only.
func (r *record) refusedCode(i id, by permission, now time.Time) {
	if !r.proven(i) {
		r.trim(now)
		r.spend().Codes = append(r.spend().Codes, refusal{i, now, by == asNewValue})
	}
}

// allRefused begins or lengthens the back-off.
func (r *record) allRefused(p Policy, current id, anyProven bool, now time.Time) {
	step := p.FirstBackoffUnproven
	if anyProven {
		step = p.FirstBackoff
	}
	if r.Backoff != nil && r.Backoff.Current == current {
		step = max(step, doubled(r.Backoff.Step, p.LastBackoff, 2))
	}
	r.Backoff = &backoff{Until: now.Add(shorter(step)), Step: step, Current: current}
}

// trim forgets what no rule looks at any more.
func (r *record) trim(now time.Time) {
	old := func(age time.Duration) func(refusal) bool {
		return func(x refusal) bool { return now.Sub(x.At) >= age }
	}
	r.strike(old(24*time.Hour), old(time.Hour))
}

// strike takes refusals out of what is spent; fresh decides about new values
// beyond the budget, regular about the others.
func (r *record) strike(regular, fresh func(refusal) bool) {
	s := r.Spent
	if s == nil {
		return
	}
	s.Refused = slices.DeleteFunc(s.Refused, regular)
	s.Codes = slices.DeleteFunc(s.Codes, regular)
	s.Fresh = slices.DeleteFunc(s.Fresh, fresh)
	if len(s.Refused) == 0 && len(s.Codes) == 0 && len(s.Fresh) == 0 {
		r.Spent = nil
	}
}

// clamp cuts off times that lie further ahead than a policy can put them: they
// were written under a clock that was wrong, or under another policy.
func (r *record) clamp(p Policy, now time.Time) {
	before := func(t *time.Time, latest time.Time) {
		if t.After(latest) {
			*t = latest
		}
	}
	for n := range r.Known {
		k := &r.Known[n]
		before(&k.Worked, now)
		before(&k.Sent, now)
		before(&k.Until, now.Add(p.LastRefusal))
	}
	if r.Backoff != nil {
		before(&r.Backoff.Until, now.Add(p.LastBackoff))
		r.Backoff.Step = min(r.Backoff.Step, p.LastBackoff)
	}
	s := r.budget()
	before(&s.Regular, now)
	for _, list := range [][]refusal{s.Refused, s.Codes, s.Fresh} {
		for n := range list {
			before(&list[n].At, now)
		}
	}
	r.trim(now)
}

// empty reports whether nothing is known.
func (r *record) empty() bool {
	return len(r.Known) == 0 && r.InForce == (id{}) && r.Adopted == nil && r.Backoff == nil && r.Spent == nil
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
// Calls with a single-use grant spend a budget of their own beside the others':
// anyone can send a browser to a callback, and must neither lock an account nor
// use up what the others have.
func (r *record) permit(p Policy, i id, single bool, now time.Time) permission {
	b := r.budget()
	spent, last, isNew, fresh := b.Refused, b.Regular, r.find(i) == nil, within(b.Fresh, time.Hour, now)
	if single {
		spent = slices.Clone(spent)
		fresh = 0
		for _, x := range b.Codes {
			isNew = isNew && x.ID != i
			switch {
			case !x.New:
				spent = append(spent, x)
				if x.At.After(last) {
					last = x.At
				}
			case now.Sub(x.At) < time.Hour:
				fresh++
			}
		}
	}
	hour, day := within(spent, time.Hour, now), within(spent, 24*time.Hour, now)
	// What is kept back for the request an hour that remains is part of the
	// day's budget, so that the budget holds whatever happens.
	atOnce := p.DailyBudget - min(24, p.DailyBudget*3/5)
	switch {
	case hour < p.HourlyBudget && day < atOnce:
		return withinBudget
	case isNew && fresh < p.NewValues:
		return asNewValue
	case now.Sub(last) >= time.Hour && day < p.DailyBudget:
		return asSpare
	default:
		return forbidden
	}
}

// permitted returns when i may be sent next; now, if it may be at once.
func (r *record) permitted(p Policy, i id, single bool, now time.Time) time.Time {
	b := r.budget()
	at := []time.Time{now, b.Regular.Add(time.Hour)}
	for _, list := range [][]refusal{b.Refused, b.Codes, b.Fresh} {
		for _, x := range list {
			at = append(at, x.At.Add(time.Hour), x.At.Add(24*time.Hour))
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	for _, t := range at {
		if !t.Before(now) && r.permit(p, i, single, t) != forbidden {
			return t
		}
	}
	return now.Add(24 * time.Hour)
}

func within(list []refusal, window time.Duration, now time.Time) int {
	n := 0
	for _, x := range list {
		if now.Sub(x.At) < window {
			n++
		}
	}
	return n
}

func (r *record) clone() record {
	out := *r
	out.Known = slices.Clone(r.Known)
	if s := r.Spent; s != nil {
		out.Spent = &spent{Refused: slices.Clone(s.Refused), Regular: s.Regular, Fresh: slices.Clone(s.Fresh), Codes: slices.Clone(s.Codes)}
	}
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
