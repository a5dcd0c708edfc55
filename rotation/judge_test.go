package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
)

// A judge watches one scope from outside: what is looked up, what is sent, what
// comes back. From that alone it follows the rules with a model of its own and
// notes every breach. It knows the numbers from the documentation of
// [rotation.Policy]. All methods are called with its party's lock held.
//
// Times are random to the nanosecond, so that what happens at one instant was
// caused there. What the engine can know only an instant later is judged from
// the next one on.
type judge struct {
	report func(format string, args ...any)

	proven    map[string]bool
	row       map[string]int // refusals since the last success
	refusedAt map[string]time.Time
	sent      map[string]bool // values whose answer counted
	workedAt  map[string]time.Time
	regular   []judged // refusals of what never worked: the budget
	fresh     []judged // the same, of new values when the budget was spent
	codes     []judged // refusals of what never worked in calls with a code
	newCodes  []judged // the same, of new values when the budget was spent
	backoff   *judgedBackoff
	adopted   [2]string // the staged one, and which current it stands for
	busy      map[*modelCall]bool
	active    int

	// broken says that the memory loses what it was told: the budget and what
	// was learned are the model's no more.
	broken bool
}

type judged struct {
	value string
	at    time.Time
}

type judgedBackoff struct {
	current string
	began   time.Time
	step    time.Duration
	holder  *modelCall // the one call begun before it that may still send
}

func (b *judgedBackoff) earliest() time.Time { return b.began.Add(b.step * 4 / 5) }
func (b *judgedBackoff) latest() time.Time   { return b.began.Add(b.step) }

// forget is what a Reset does, or a restart without memory.
func (j *judge) forget() {
	j.proven, j.row, j.refusedAt, j.sent = map[string]bool{}, map[string]int{}, map[string]time.Time{}, map[string]bool{}
	j.workedAt = map[string]time.Time{}
	j.regular, j.fresh, j.codes, j.newCodes, j.backoff, j.adopted = nil, nil, nil, nil, nil, [2]string{}
}

// A ground is what permits a value that never worked.
type ground int

const (
	none ground = iota
	budget
	newValue
	spare
)

// permit is the budget: 12 in an hour, 16 in a day at once and one an hour up to
// 40, and 4 new values an hour beside it. Codes have the same again, which they
// share with the others.
func (j *judge) permit(value string, code bool, now time.Time) ground {
	spent, isNew, fresh := j.regular, !j.sent[value], j.fresh
	if code {
		spent, fresh = slices.Concat(j.regular, j.codes), j.newCodes
		isNew = isNew && !slices.ContainsFunc(slices.Concat(j.codes, j.newCodes), func(x judged) bool { return x.value == value })
	}
	hour, day := within(spent, time.Hour, now), within(spent, 24*time.Hour, now)
	switch {
	case hour < 12 && day < 16:
		return budget
	case isNew && within(fresh, time.Hour, now) < 4:
		return newValue
	case hour == 0 && day < 40:
		return spare
	default:
		return none
	}
}

func within(list []judged, window time.Duration, now time.Time) (n int) {
	for _, x := range list {
		if now.Sub(x.at) < window {
			n++
		}
	}
	return n
}

// underRefusal reports whether value surely comes last at now.
func (j *judge) underRefusal(value string, now time.Time) bool {
	if j.row[value] == 0 || !now.After(j.refusedAt[value]) {
		return false
	}
	d := 30 * time.Second
	for range j.row[value] - 1 {
		d = min(2*d, time.Hour)
	}
	return now.Before(j.refusedAt[value].Add(d * 4 / 5))
}

// inBackoff returns the back-off that call meets, if any.
func (j *judge) inBackoff(call *modelCall) *judgedBackoff {
	if j.backoff != nil && j.backoff.current == call.current {
		return j.backoff
	}
	return nil
}

// begins judges a request that is about to be sent.
func (j *judge) begins(call *modelCall, value string, now time.Time) {
	say := func(format string, args ...any) {
		j.report("%s sends %s, %s", call, value, fmt.Sprintf(format, args...))
	}
	again := slices.Contains(call.sends, value)
	switch {
	case call.dead != nil:
		say("after a look-up said %v", call.dead)
	case call.ended:
		say("after an answer that was no refusal")
	case call.hopeless:
		say("after a refusal that no credential escapes")
	case len(call.sends) >= call.limit:
		say("over its limit of %d", call.limit)
	case value != call.current && !slices.Contains(call.others, value):
		say("which the source has not: it has %s and %v", call.current, call.others)
	case now != call.last:
		say("%s after its last look: it waited and did not look again", now.Sub(call.last))
	case again && (value != call.sends[0] || strings.Count(strings.Join(call.sends, " ")+" ", value+" ") > 1):
		say("too often: before were %v", call.sends)
	case again && !j.proven[value] && !call.proven[value] && !j.broken:
		say("again, though it never worked here")
	case again && !call.asked:
		say("again, without asking the source for a newer one")
	}

	call.ground = budget
	if !j.proven[value] && !j.broken {
		if call.ground = j.permit(value, call.single, now); call.ground == none {
			say("beyond the budget: %d in the hour, %d in the day, %d new", within(j.regular, time.Hour, now), within(j.regular, 24*time.Hour, now), within(j.fresh, time.Hour, now))
		}
	}

	b := j.inBackoff(call)
	if b != nil && now.After(b.began) && now.Before(b.earliest()) && !j.broken {
		if call.began.Before(b.began) && (b.holder == nil || b.holder == call) {
			b.holder = call
		} else {
			say("in a back-off of %s since %s", b.step, now.Sub(b.began))
		}
	}
	trial := b != nil && call.began.After(b.began)
	if trial && again && !j.broken {
		say("twice in one trial")
	}

	// The turn: what may well be refused is on its way once at a time.
	call.turn = len(call.sends) > 0 && !j.workedAt[value].After(call.refusedAt) || !j.broken && (!j.proven[value] || j.underRefusal(value, now) || trial)
	if call.turn {
		for other := range j.busy {
			say("while %s waits for the answer to %v", other, other.sends)
		}
		j.busy[call] = true
	}

	j.order(call, value, now, trial, say)
}

// order: current goes first, or the staged one that stands for it, unless there
// is a reason against it.
func (j *judge) order(call *modelCall, value string, now time.Time, trial bool, say func(string, ...any)) {
	current := call.current
	if len(call.sends) > 0 || call.unsent || trial || j.broken || j.backoff != nil && j.backoff.current == current {
		return
	}
	if adopted := j.adopted[0]; j.adopted[1] == current && slices.Contains(call.staged, adopted) {
		if value != adopted && j.row[adopted] == 0 {
			say("before %s, which the server took in the place of %s", adopted, current)
		}
		return
	}
	if value == current || j.row[current] > 0 {
		return
	}
	if j.proven[current] || j.active == 1 && (j.permit(current, call.single, now) == budget || j.permit(current, call.single, now) == newValue) {
		say("before the current one, %s, which nobody refused", current)
	}
}

// ends takes an answer in. refused and ok exclude each other; neither is another error.
func (j *judge) ends(call *modelCall, value string, ok, refused bool, now time.Time) {
	delete(j.busy, call)
	call.ended = !refused
	call.worked = ok
	switch {
	case refused && call.single:
		call.refusedAt = now
		call.pending = append(call.pending, pendingRefusal{value, call.ground})
		switch {
		case j.proven[value]:
		case call.ground == newValue:
			j.newCodes = append(j.newCodes, judged{value, now})
		default:
			j.codes = append(j.codes, judged{value, now})
		}
	case refused:
		call.refusedAt = now
		j.refuse(value, call.ground, now)
	case ok:
		for _, p := range call.pending {
			j.refuse(p.value, p.ground, now)
		}
		j.proven[value], j.sent[value], j.row[value], j.workedAt[value] = true, true, 0, now
		j.backoff = nil
		own := func(x judged) bool { return x.value == value }
		j.regular, j.fresh, j.codes = slices.DeleteFunc(j.regular, own), slices.DeleteFunc(j.fresh, own), slices.DeleteFunc(j.codes, own)
		j.newCodes = slices.DeleteFunc(j.newCodes, own)
		switch {
		case slices.Contains(call.staged, value) && value != call.current && slices.Contains(call.sends, call.current):
			j.adopted = [2]string{value, call.current}
		case value == call.current || j.adopted[1] != call.current:
			j.adopted = [2]string{}
		}
	}
}

func (j *judge) refuse(value string, by ground, now time.Time) {
	j.sent[value] = true
	j.row[value]++
	j.refusedAt[value] = now
	switch {
	case j.proven[value]:
	case by == newValue:
		j.fresh = append(j.fresh, judged{value, now})
	default:
		j.regular = append(j.regular, judged{value, now})
	}
}

// allRefused is told by the engine's event.
func (j *judge) allRefused(call *modelCall, now time.Time) {
	if call.single {
		j.report("%s, a code, starts a back-off", call)
	}
	if call.allRefused {
		j.report("%s starts two back-offs", call)
	}
	call.allRefused = true
	step := 30 * time.Second
	if slices.ContainsFunc(call.tried, func(v string) bool { return j.proven[v] }) {
		step = time.Second
	}
	if b := j.inBackoff(call); b != nil {
		step = max(step, min(2*b.step, 5*time.Minute))
	}
	j.backoff = &judgedBackoff{current: call.current, began: now, step: step}
	if call.turn {
		j.backoff.holder = call // and it is at its end
	}
}

// returns judges what a call ended with.
func (j *judge) returns(call *modelCall, err error, now time.Time) {
	j.active--
	delete(j.busy, call)
	if call.returned {
		j.report("%s returned twice", call)
	}
	call.returned = true
	var refused *rotation.RefusedError
	over := call.ctx.Err() != nil
	if deadline, ok := call.ctx.Deadline(); ok && now.After(deadline) {
		j.report("%s returned %s after its deadline", call, now.Sub(deadline))
	}
	switch {
	case (err == nil) != call.worked:
		j.report("%s returned %v, and its last answer was a success: %t", call, err, call.worked)
	case err == nil:
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		if !over {
			j.report("%s returned %v, which is not its own context's", call, err)
		}
	case errors.As(err, &refused):
		if !over && !j.broken {
			j.judgeRefused(call, refused, now)
		}
	case call.dead != nil && errors.Is(err, call.dead), call.cut != nil && errors.Is(err, call.cut):
	case errors.Is(err, errCannotSign) && call.unsent && len(call.sends) == 0:
		if !over && !j.broken {
			j.judgeGivingUp(call, now)
		}
	default:
		j.report("%s returned %v, which nobody told it", call, err)
	}
}

func (j *judge) judgeRefused(call *modelCall, err *rotation.RefusedError, now time.Time) {
	b := j.inBackoff(call)
	all := append([]string{call.current}, call.others...)
	switch {
	case call.dead != nil:
	case len(call.sends) == 0 && b != nil && !now.After(b.latest()):
		if !call.asked {
			j.report("%s was backed off and did not ask the source for a newer one", call)
		}
	case len(call.sends) == 0 && err.BudgetSpent:
		if !call.asked {
			j.report("%s: the budget is spent, and it did not ask the source for a newer one", call)
		}
		for _, v := range all {
			if j.proven[v] && !slices.Contains(call.tried, v) || j.permit(v, call.single, now) != none {
				j.report("%s: the budget is spent, says %v, but %s may be sent", call, err, v)
			}
		}
	case len(call.sends) == 0 || !call.allRefused && !call.single:
		if b == nil || now.After(b.latest()) {
			j.report("%s got %v, and there is no back-off", call, err)
		}
	case call.hopeless, call.single && b != nil:
	case len(call.sends) < call.limit:
		j.judgeGivingUp(call, now)
	}
}

// judgeGivingUp: everything that may be sent was tried.
func (j *judge) judgeGivingUp(call *modelCall, now time.Time) {
	if !call.listed {
		j.report("%s gives up after %v without a look at the others", call, call.tried)
	}
	for _, v := range append([]string{call.current}, call.others...) {
		if !slices.Contains(call.tried, v) && (j.proven[v] || j.permit(v, call.single, now) != none) {
			j.report("%s gives up after %v: %s is left", call, call.tried, v)
		}
	}
}

// observe passes the engine's word that all were refused on to the judge of the
// call's scope.
func observe(ctx context.Context, event smartcred.Event) {
	if call, ok := ctx.Value(callKey{}).(*modelCall); ok && event.Kind == smartcred.EventAllRefused {
		call.party.mu.Lock()
		defer call.party.mu.Unlock()
		call.party.note("%s: all were refused", call)
		call.party.judge.allRefused(call, time.Now())
	}
}
