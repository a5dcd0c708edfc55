package vault

import "time"

// pauses follow each failed login. Vault locks a role out after 5 failed logins
// within 15 minutes, and forgets them 15 minutes after the last: the fourth
// failure comes 2 min 35 s after the first, and the fifth finds Vault's count at 0.
//
//	failure      1    2     3       4        5
//	after the 1st 0    5 s   35 s    2 m 35   18 m 35, then every 16 min
var pauses = [...]time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 16 * time.Minute}

// pace is when the next login may be tried. It is not safe for concurrent use.
type pace struct {
	failures int
	next     time.Time
	err      error      // of the last failed login
	with     credential // what it was tried with
}

// wait returns the last failure while no login may be tried with c.
// Another credential ends the wait.
func (p *pace) wait(now time.Time, c credential) error {
	if p.failures == 0 || !now.Before(p.next) || !p.with.equal(c) {
		return nil
	}
	return p.err
}

func (p *pace) failed(now time.Time, c credential, err error) {
	p.next = now.Add(pauses[min(p.failures, len(pauses)-1)])
	p.failures++
	p.with, p.err = c, err
}
