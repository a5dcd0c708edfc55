package secretsourcetest

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/conformance"
	"github.com/smartcred/smartcred/secretsource"
)

func lookAtCurrent(ctx context.Context, s *subject) error {
	first, err := s.current(ctx)
	if err != nil {
		return err
	}
	if first.Version == "" {
		return errors.New("the secret has no version: where the backend has none, OpenOptions.NewSecret makes one")
	}
	second, err := s.current(ctx)
	if err != nil {
		return err
	}
	if first.Version != second.Version || !first.Equal(second) {
		return errors.New("two look-ups of an unchanged backend differ")
	}
	if !first.Created.Equal(second.Created) {
		return errors.New("two look-ups of an unchanged backend differ in Created, since when the value is current: zero, if the backend does not tell")
	}
	return nil
}

func lookAtPrinting(ctx context.Context, s *subject) error {
	secret, err := s.current(ctx)
	if err != nil {
		return err
	}
	value := conformance.NewWatch(string(secret.Reveal()))
	if value.Holds(secret.Version) {
		return errors.New("the version, which logs show, holds the value")
	}
	if isHash(secret.Version, secret.Reveal()) {
		return errors.New("the version, which logs show, is a hash of the value, by which a value can be guessed: OpenOptions.NewSecret keys it")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if value.Holds(fmt.Sprintf(verb, secret)) {
			return fmt.Errorf("the secret shows its value when it is printed with %s", verb)
		}
	}
	return nil
}

// isHash reports whether version has a SHA-2 of value without a key, or the beginning
// of one in hexadecimal.
func isHash(version string, value []byte) bool {
	short, long := sha256.Sum256(value), sha512.Sum512(value)
	for _, sum := range [][]byte{short[:], long[:]} {
		if digits := hex.EncodeToString(sum); strings.Contains(strings.ToLower(version), digits[:8]) || strings.Contains(version, base64.RawStdEncoding.EncodeToString(sum)) {
			return true
		}
	}
	return false
}

func lookAtStages(ctx context.Context, s *subject) error {
	_, err := s.lookup(ctx, secretsource.Stage(99))
	return conformance.Answer(err, smartcred.ErrNotFound)
}

func lookAtCallers(ctx context.Context, s *subject) error {
	want, err := s.current(ctx)
	if err != nil {
		return err
	}
	return conformance.All(s.callers, func(int) error {
		got, err := s.current(ctx)
		if err == nil && !got.Equal(want) {
			err = errors.New("the value is not what the others got")
		}
		return err
	})
}

func lookAtAliasing(ctx context.Context, s *subject) error {
	secret, err := s.current(ctx)
	if err != nil {
		return err
	}
	clear(secret.Reveal())
	again, err := s.current(ctx)
	if err != nil {
		return err
	}
	if !again.Equal(secret) {
		return errors.New("a caller that wrote to a value changed what the next one gets")
	}
	return nil
}

func lookAtEndedContext(ctx context.Context, s *subject) error {
	return conformance.CancelledBefore(ctx, func(ctx context.Context) error { _, err := s.lookup(ctx, secretsource.Current); return err })
}
