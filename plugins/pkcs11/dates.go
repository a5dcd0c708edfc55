//go:build cgo

package pkcs11

import (
	"errors"
	"strings"
	"time"

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred/signer"
)

// dates returns when a private key, with attributes a, may begin to sign, and the
// end of its last day; zero where the token says nothing. What the private key
// does not show is looked for at its public key object: SoftHSM 2.6 can't read
// the dates of private objects again that it took. A start that is there and can't be
// read is [signer.Unscheduled].
func (c *connection) dates(session cryptoki.SessionHandle, h cryptoki.ObjectHandle, a objectAttributes) (start, end time.Time, err error) {
	own, unreadable, err := c.readDates(session, h)
	if err != nil {
		return start, end, err
	}
	if start, err = own.date(cryptoki.CKA_START_DATE); err != nil {
		return start, end, malformed("CKA_START_DATE " + err.Error())
	}
	if end, err = own.date(cryptoki.CKA_END_DATE); err != nil {
		return start, end, malformed("CKA_END_DATE " + err.Error())
	}
	if start.IsZero() || end.IsZero() {
		handles, err := c.findObjects(session, beside(cryptoki.CKO_PUBLIC_KEY, a))
		if err != nil {
			return start, end, err
		}
		for _, h := range handles {
			public, _, err := c.readDates(session, h)
			if err != nil {
				return start, end, err
			}
			if at, err := public.date(cryptoki.CKA_START_DATE); err == nil && start.IsZero() {
				start = at
			}
			if at, err := public.date(cryptoki.CKA_END_DATE); err == nil && end.IsZero() {
				end = at
			}
		}
	}
	if start.IsZero() && unreadable {
		start = signer.Unscheduled
	}
	if !end.IsZero() {
		end = end.AddDate(0, 0, 1)
	}
	return start, end, nil
}

// readDates reads one after the other: one that is broken spoils no other.
func (c *connection) readDates(session cryptoki.SessionHandle, h cryptoki.ObjectHandle) (a objectAttributes, startUnreadable bool, err error) {
	a = objectAttributes{}
	for _, t := range []uint{cryptoki.CKA_START_DATE, cryptoki.CKA_END_DATE} {
		one, err := c.read(session, h, t)
		switch {
		case isOne(err, []cryptoki.Error{cryptoki.CKR_GENERAL_ERROR, cryptoki.CKR_FUNCTION_FAILED}):
			startUnreadable = startUnreadable || t == cryptoki.CKA_START_DATE
		case err != nil:
			return nil, false, err
		default:
			a[t] = one[t]
		}
	}
	return a, startUnreadable, nil
}

// date returns a CK_DATE's midnight UTC; zero where there is none.
func (a objectAttributes) date(t uint) (time.Time, error) {
	v := string(a[t])
	if strings.Trim(v, "\x00 0") == "" { // some libraries fill what is not set
		return time.Time{}, nil
	}
	at, err := time.Parse("20060102", v)
	if err != nil {
		return time.Time{}, errors.New("is not eight digits, the year first")
	}
	return at, nil
}
