package rotation

import "time"

// A Policy holds the numbers of the rules. A zero field is its default, so that
// the zero Policy is the one to use.
type Policy struct {
	// MaxSends is how many requests one call makes at most; 0: 3.
	MaxSends int
	// MaxSendsSingleUse is the same for a code or refresh token; 0: 2.
	MaxSendsSingleUse int

	// FirstRefusal is how long a credential comes last after a refusal; it
	// doubles with each one in a row, up to LastRefusal. 0: 30 s and 1 h. The
	// time used is up to a fifth shorter, at random.
	FirstRefusal, LastRefusal time.Duration

	// FirstBackoff is the first back-off after all were refused, where one of
	// them had worked at this server; FirstBackoffUnproven where none had. Each
	// doubles up to LastBackoff. 0: 1 s, 30 s and 5 min. The time used is up to a
	// fifth shorter, at random.
	FirstBackoff, FirstBackoffUnproven, LastBackoff time.Duration

	// HourlyBudget and DailyBudget are how many requests of credentials that
	// have not worked at this server may be refused in any hour and in any 24
	// hours; 0: 12 and 40. 24 of the day's (three fifths, if it is under 40) are
	// kept for later: when the others are spent, one request an hour remains.
	// Calls with a single-use grant have the same budget again, which they
	// share with the others but can't take from them.
	HourlyBudget, DailyBudget int
	// NewValues is how many values never sent before are sent in any hour, once
	// each and beside the budget, when that is spent; 0: 4.
	NewValues int
}

func (p Policy) complete() Policy {
	setDefault(&p.MaxSends, 3)
	setDefault(&p.MaxSendsSingleUse, 2)
	setDefault(&p.FirstRefusal, 30*time.Second)
	setDefault(&p.LastRefusal, time.Hour)
	setDefault(&p.FirstBackoff, time.Second)
	setDefault(&p.FirstBackoffUnproven, 30*time.Second)
	setDefault(&p.LastBackoff, 5*time.Minute)
	setDefault(&p.HourlyBudget, 12)
	setDefault(&p.DailyBudget, 40)
	setDefault(&p.NewValues, 4)
	return p
}

func setDefault[T int | time.Duration](value *T, def T) {
	if *value <= 0 {
		*value = def
	}
}

// doubled returns first × 2^(n-1), at most last.
func doubled(first, last time.Duration, n int) time.Duration {
	for range n - 1 {
		if first > last/2 {
			return last
		}
		first *= 2
	}
	return min(first, last)
}
