package signer

import (
	"context"
	"crypto"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
)

// A foreignSigner is a key of another library: it knows no context.
type foreignSigner struct {
	crypto.Signer
	delay  time.Duration
	answer func([]byte) []byte
	err    error
	closes error // of Close
	closed atomic.Int32
	calls  atomic.Int32
	most   atomic.Int32
}

func (f *foreignSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if n := f.calls.Add(1); n > f.most.Load() {
		f.most.Store(n)
	}
	defer f.calls.Add(-1)
	time.Sleep(f.delay)
	if f.err != nil {
		return nil, f.err
	}
	sig, err := f.Signer.Sign(rand, digest, opts)
	if err == nil && f.answer != nil {
		sig = f.answer(sig)
	}
	return sig, err
}

func (f *foreignSigner) Close() error { f.closed.Add(1); return f.closes }

func TestCryptoSigner(t *testing.T) {
	for name, alg := range map[string]Algorithm{"rsa2048": PS384, "rsa3072": "", "p384": "", "p256": ES256} {
		t.Run(name, func(t *testing.T) {
			s, err := FromCryptoSigner(&foreignSigner{Signer: testKey(t, name)}, &CryptoSignerOptions{
				Algorithm: alg, KeyID: "kid", Version: "7", Custody: Custody{CustodyGenerated, "says so"},
			})
			if err != nil {
				t.Fatal(err)
			}
			keys, err := s.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			key := keys[0]
			if key.ID != "kid" || key.Version != "7" || !key.Custody.NonExportable() {
				t.Errorf("key %+v", key)
			}
			sig, err := s.Sign(t.Context(), key, []byte("input"))
			if err != nil {
				t.Fatal(err)
			}
			if err := Verify(key, []byte("input"), sig); err != nil {
				t.Error(err)
			}
			key.Version = "8"
			if _, err := s.Sign(t.Context(), key, []byte("input")); !errors.Is(err, smartcred.ErrNotFound) {
				t.Errorf("another version: %v", err)
			}
		})
	}
}

func TestCryptoSignerCustody(t *testing.T) {
	for name, tt := range map[string]struct {
		signer crypto.Signer
		want   CustodyLevel
	}{
		"in this process": {testKey(t, "p384"), CustodyExportable},
		"elsewhere":       {&foreignSigner{Signer: testKey(t, "p384")}, CustodyUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := FromCryptoSigner(tt.signer, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.key.Custody.Level; got != tt.want {
				t.Errorf("custody %s, want %s", got, tt.want)
			}
		})
	}
}

func TestCryptoSignerRefusesAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		key    string
		answer func([]byte) []byte
	}{
		"raw in place of DER": {"p384", func(der []byte) []byte { raw, _ := RawFromDER(ES384.curve(), der); return raw }},
		"a byte more":         {"p384", func(der []byte) []byte { return append(der, 0) }},
		"short RSA":           {"rsa2048", func(sig []byte) []byte { return sig[1:] }},
		"nothing":             {"rsa2048", func([]byte) []byte { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := FromCryptoSigner(&foreignSigner{Signer: testKey(t, tt.key), answer: tt.answer}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if sig, err := s.Sign(t.Context(), s.key, []byte("input")); err == nil {
				t.Errorf("%d bytes were accepted", len(sig))
			}
		})
	}
}

func TestCryptoSignerKeepsErrorClass(t *testing.T) {
	s, err := FromCryptoSigner(&foreignSigner{Signer: testKey(t, "p384"), err: &smartcred.UnavailableError{RetryAfter: time.Second}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var unavailable *smartcred.UnavailableError
	if _, err := s.Sign(t.Context(), s.key, nil); !errors.As(err, &unavailable) || unavailable.RetryAfter != time.Second {
		t.Errorf("error %v", err)
	}
}

func TestCryptoSignerHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		foreign := &foreignSigner{Signer: testKey(t, "p384"), delay: time.Hour}
		s, err := FromCryptoSigner(foreign, &CryptoSignerOptions{Concurrency: 2})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 5 { // the first two hold the places, the others wait for one
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := s.Sign(ctx, s.key, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			cancel()
		}
		if waited := time.Since(start); waited != 5*time.Second {
			t.Errorf("waited %s", waited)
		}
		if most := foreign.most.Load(); most != 2 {
			t.Errorf("%d calls at once, want 2", most)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if foreign.calls.Load() != 0 {
			t.Error("Close left a call behind")
		}
		if foreign.closed.Load() != 1 {
			t.Error("the crypto.Signer was not closed")
		}
		if _, err := s.Sign(t.Context(), s.key, nil); !errors.Is(err, smartcred.ErrClosed) {
			t.Errorf("Sign after Close: %v", err)
		}
		if _, err := s.Keys(t.Context()); !errors.Is(err, smartcred.ErrClosed) {
			t.Errorf("Keys after Close: %v", err)
		}
		if err := s.Close(); err != nil || foreign.closed.Load() != 1 {
			t.Errorf("second Close: %v, closed %d times", err, foreign.closed.Load())
		}
	})
}

func TestCryptoSignerCloseAgain(t *testing.T) {
	foreign := &foreignSigner{Signer: testKey(t, "p384"), closes: errors.New("token removed")}
	s, err := FromCryptoSigner(foreign, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); !errors.Is(err, foreign.closes) {
			t.Errorf("Close: %v, want the crypto.Signer's error", err)
		}
	}
	if n := foreign.closed.Load(); n != 1 {
		t.Errorf("closed %d times", n)
	}
}

func TestFromCryptoSignerRefuses(t *testing.T) {
	if _, err := FromCryptoSigner(nil, nil); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("nil: %v", err)
	}
	if _, err := FromCryptoSigner(testKey(t, "p256"), nil); !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
		t.Errorf("P-256: %v", err)
	}
}
