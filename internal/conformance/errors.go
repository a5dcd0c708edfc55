package conformance

import (
	"errors"
	"fmt"
	"strings"

	"github.com/smartcred/smartcred"
)

// Answer checks the error of a call that the backend must refuse: one of want,
// and no claim that the backend could not be asked.
func Answer(err error, want ...error) error {
	if err == nil {
		return errors.New("it did not fail")
	}
	if errors.Is(err, smartcred.ErrUnavailable) {
		return fmt.Errorf("the backend answered, and the error says that it could not be asked: %w", err)
	}
	names := make([]string, len(want))
	for i, w := range want {
		if errors.Is(err, w) {
			return nil
		}
		names[i] = fmt.Sprintf("%q", w)
	}
	return fmt.Errorf("the error is none that errors.Is %s: %w", strings.Join(names, " or "), err)
}

// Outage checks the error of a call of a backend that gives no usable answer.
func Outage(err error) error {
	switch {
	case err == nil:
		return errors.New("it did not fail: the harness breaks nothing")
	case !errors.Is(err, smartcred.ErrUnavailable):
		return fmt.Errorf("there was no answer, and the error is none that errors.Is smartcred.ErrUnavailable: %w", err)
	case errors.Is(err, smartcred.ErrNotFound) || errors.Is(err, smartcred.ErrDenied):
		return fmt.Errorf("there was no answer, and the error claims one: %w", err)
	}
	return nil
}
