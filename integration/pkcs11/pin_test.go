//go:build cgo

package pkcs11

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/pkcs11"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// 20 starts of a program with a wrong PIN are one attempt: SoftHSM tells of it in
// the token's flags. OpenSC's spy counts.
func TestWrongPINIsTriedOnceInTwentyStarts(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, p384, "k", "01")
	log := filepath.Join(h.dir, "spy.log")
	start := func(pin string, query ...string) (string, error) {
		return self(t, "start", "HSM_PIN="+pin, "PKCS11SPY="+softHSM, "PKCS11SPY_OUTPUT="+log, "HSM_URI="+uri(spy(t), "object=k", query...))
	}
	logins := func() int {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), ": C_Login\n")
	}
	if out, err := start(rightPIN); err != nil || logins() != 1 {
		t.Fatalf("%v, %d logins: %s", err, logins(), out)
	}
	var out string
	for range 20 {
		var err error
		if out, err = start(wrongPIN); err == nil {
			t.Fatal("a wrong PIN signs")
		}
		shows(t, out)
	}
	if got := logins() - 1; got != 1 {
		t.Errorf("20 starts with a wrong PIN made %d logins, want 1", got)
	}
	if !strings.Contains(out, "denied") || !strings.Contains(out, "pin-count-low=try") {
		t.Errorf("the last start does not say what to do: %s", out)
	}
	if _, err := start(rightPIN); err == nil {
		t.Error("the right PIN was tried although the token says that one failed")
	}
	if out, err := start(rightPIN, "pin-count-low=try"); err != nil {
		t.Errorf("pin-count-low=try: %v: %s", err, out)
	}
	if out, err := start(rightPIN); err != nil {
		t.Errorf("after a login the flag is gone: %v: %s", err, out)
	}
}

func TestFlagsThatForbidALogin(t *testing.T) {
	for _, tt := range []struct {
		flag, query, says string
		works             bool
	}{
		{flag: "locked", says: "locked"},
		{flag: "locked", query: "pin-count-low=try", says: "locked"},
		{flag: "final", says: "one more wrong PIN locks it"},
		{flag: "final", query: "pin-count-low=try", says: "one more wrong PIN locks it"},
		{flag: "low", says: "pin-count-low=try"},
		{flag: "low", query: "pin-count-low=try", works: true},
	} {
		t.Run(tt.flag+strings.TrimPrefix(tt.query, "pin-count-low="), func(t *testing.T) {
			h := newHSM(t)
			h.keygen(t, p384, "k", "01")
			h.on(t, tt.flag)
			var query []string
			if tt.query != "" {
				query = append(query, tt.query)
			}
			s := open(t, uri(shimHSM, "object=k", query...), nil)
			err := signs(t.Context(), s)
			if tt.works {
				if err != nil || h.logins(t) != 1 {
					t.Errorf("%v, %d logins", err, h.logins(t))
				}
				return
			}
			if !errors.Is(err, smartcred.ErrDenied) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want ErrDenied and %q", err, tt.says)
			}
			if got := h.logins(t); got != 0 {
				t.Errorf("%d logins, want none", got)
			}
		})
	}
}

// In one process a refused PIN is not sent again, by whichever Signer, until the
// source has another one or Reset is called. The token's flag alone does not hold
// these back: pin-count-low=try is set.
func TestRefusedPINIsRemembered(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, p384, "k", "01")
	pin := filepath.Join(h.dir, "pin")
	write := func(value string) {
		t.Helper()
		if err := os.WriteFile(pin, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(wrongPIN)
	newSigner := func() *pkcs11.Signer {
		s, err := pkcs11.New(&pkcs11.Options{
			Module: shimHSM, Token: pkcs11.TokenSelector{Label: tokenLabel}, Key: pkcs11.KeySelector{Label: "k"},
			PIN: secretsource.File(pin, nil), TryLowPIN: true, Observer: smartcred.Discard,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	first, second := newSigner(), newSigner()
	for range 3 {
		for _, s := range []signer.Signer{first, second} {
			err := signs(t.Context(), s)
			if !errors.Is(err, smartcred.ErrDenied) {
				t.Fatalf("%v, want ErrDenied", err)
			}
			shows(t, err.Error())
		}
		time.Sleep(1100 * time.Millisecond) // past the pause after a connecting that failed
	}
	if got := h.logins(t); got != 1 {
		t.Fatalf("%d logins with one wrong PIN, want 1", got)
	}
	first.Reset()
	if err := signs(t.Context(), first); !errors.Is(err, smartcred.ErrDenied) || h.logins(t) != 2 {
		t.Errorf("after Reset: %v, %d logins; want one more", err, h.logins(t))
	}
	write(rightPIN)
	for _, s := range []signer.Signer{first, second} {
		eventually(t, "the PIN's correction is not seen", func() bool { return signs(t.Context(), s) == nil })
	}
	if got := h.logins(t); got != 3 {
		t.Errorf("%d logins after the correction, want 3", got)
	}
}

// A login that failed may have cost a try, also where neither the answer nor the
// token's flags say so.
func TestVagueLoginsArePaced(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, p384, "k", "01")
	recover := h.on(t, "vague")
	first, second := open(t, uri(shimHSM, "object=k"), nil), open(t, uri(shimHSM, "object=k"), nil)
	var err error
	for range 8 {
		for _, s := range []signer.Signer{first, second} {
			if err = signs(t.Context(), s); !errors.Is(err, smartcred.ErrUnavailable) {
				t.Fatalf("%v, want ErrUnavailable", err)
			}
			shows(t, err.Error())
		}
		time.Sleep(500 * time.Millisecond)
	}
	if got := h.logins(t); got != 2 {
		t.Errorf("%d logins in 4 s, want 2", got)
	}
	var unavailable *smartcred.UnavailableError
	if !errors.As(err, &unavailable) || unavailable.RetryAfter < 30*time.Second || !strings.Contains(err.Error(), "Reset") {
		t.Errorf("%v, want a RetryAfter of a minute, and Reset named", err)
	}
	recover()
	first.(*pkcs11.Signer).Reset()
	if err := signs(t.Context(), first); err != nil {
		t.Error(err)
	}
}

func TestPINFile(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, p384, "k", "01")
	path := filepath.Join(h.dir, "pin")
	if err := os.WriteFile(path, []byte(rightPIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "pkcs11:token=" + tokenLabel + ";object=k?module-path=" + softHSM + "&pin-source="
	for name, s := range map[string]string{"RFC 7512's file": "file:" + path, "encoded": "file%3A%2F%2F" + path} {
		t.Run(name, func(t *testing.T) {
			if err := signs(t.Context(), open(t, text+s, nil)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		err := signs(t.Context(), open(t, text+"file:"+path+"-gone", nil))
		if !errors.Is(err, smartcred.ErrDenied) || errors.Is(err, smartcred.ErrNotFound) || !strings.Contains(err.Error(), "look up PIN") {
			t.Errorf("%v, want ErrDenied: the PIN is missing, not the key", err)
		}
	})
	t.Run("none", func(t *testing.T) {
		err := signs(t.Context(), open(t, strings.TrimSuffix(text, "&pin-source="), nil))
		if !errors.Is(err, smartcred.ErrNotFound) || !strings.Contains(err.Error(), "pin-source") {
			t.Errorf("%v, want ErrNotFound that names pin-source", err)
		}
	})
}
