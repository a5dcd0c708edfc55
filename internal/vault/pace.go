package vault

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

// pauses follow each failed login. Vault locks a role out after 5 failed logins
// within 15 minutes, and forgets them 15 minutes after the last: the fourth
// failure comes 2 min 35 s after the first, and the fifth finds Vault's count at 0.
//
//	failure      1    2     3       4        5
//	after the 1st 0    5 s   35 s    2 m 35   18 m 35, then every 16 min
var pauses = [...]time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 16 * time.Minute}

// memory is how long Vault counts a failed login.
const memory = 15 * time.Minute

// pace is when the next login may be tried. It outlives its login, so it holds no
// credential. It is not safe for concurrent use.
type pace struct {
	failures int
	next     time.Time
	err      error             // of the last failed login
	with     [sha256.Size]byte // what it was tried with: see [credential.hash]
}

var hashKey = sync.OnceValue(func() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	return key
})

// hash tells credentials apart, and tells nobody what they are.
func (c credential) hash() (sum [sha256.Size]byte) {
	role := c.role.Reveal()
	mac := hmac.New(sha256.New, hashKey())
	mac.Write([]byte{byte(len(role) >> 8), byte(len(role))})
	mac.Write(role)
	mac.Write(c.proof.Reveal())
	mac.Sum(sum[:0])
	return sum
}

// wait returns the last failure while no login may be tried with c.
// Another credential ends the wait.
func (p *pace) wait(now time.Time, c credential) error {
	if p.failures == 0 || !now.Before(p.next) || p.with != c.hash() {
		return nil
	}
	return p.err
}

func (p *pace) failed(now time.Time, c credential, err error) {
	p.next = now.Add(pauses[min(p.failures, len(pauses)-1)])
	p.failures++
	p.with, p.err = c.hash(), err
}

// matters reports whether Vault may still count the failures.
func (p *pace) matters(now time.Time) bool {
	return p.failures > 0 && now.Before(p.next.Add(memory))
}
