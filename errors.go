package smartcred

import (
	"errors"
	"fmt"
	"time"
)

// The errors that all packages share. Match them with [errors.Is].
var (
	// ErrNotFound says that the backend answered, and that what was asked for
	// does not exist: no such secret, stage, field or key. It is an answer, not
	// an outage: nothing stale is used in its place.
	ErrNotFound = errors.New("not found")

	// ErrDenied says that the backend answered, and that this process may not
	// read the secret or use the key. Like [ErrNotFound] it is an answer.
	ErrDenied = errors.New("denied")

	// ErrUnavailable says that the backend could not be asked: ask again later.
	// It is the only error for which a value looked up before may go on serving.
	// [UnavailableError] matches it and can say when to ask again.
	ErrUnavailable = errors.New("unavailable")

	// ErrInvalidConfig says that something configured can't work. Asking again
	// does not help. [ConfigError] matches it and names the option.
	ErrInvalidConfig = errors.New("invalid configuration")

	// ErrUnsupportedAlgorithm says that a key does not fit the algorithm asked
	// for, or that nobody here speaks that algorithm.
	ErrUnsupportedAlgorithm = errors.New("unsupported algorithm")

	// ErrClosed says that the value was used after its Close.
	ErrClosed = errors.New("closed")
)

// An UnavailableError is an [ErrUnavailable] with its cause and, where the
// backend says so, the time to wait.
type UnavailableError struct {
	// RetryAfter is how long the backend asks to be left alone; 0 if it does not say.
	RetryAfter time.Duration
	// Err is the cause. It must not carry a secret or a response body.
	Err error
}

// Error implements error.
func (e *UnavailableError) Error() string {
	msg := ErrUnavailable.Error()
	if e.RetryAfter > 0 {
		msg += fmt.Sprintf(" (retry after %s)", e.RetryAfter)
	}
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Is reports whether target is [ErrUnavailable].
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// A ConfigError is an [ErrInvalidConfig] that names the option at fault. What
// collects several joins them with [errors.Join], so that everything wrong is
// said at once.
type ConfigError struct {
	// Option is the option's name as the caller writes it: a configuration key,
	// a field of an Options struct, a query option of a URI.
	Option string
	// Problem says what is wrong and what to do, without the value where that
	// could be a secret.
	Problem string
	// Err is the cause, if there is one.
	Err error
}

// Error implements error.
func (e *ConfigError) Error() string {
	msg := e.Problem
	if e.Option != "" {
		msg = e.Option + ": " + msg
	}
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Is reports whether target is [ErrInvalidConfig].
func (e *ConfigError) Is(target error) bool { return target == ErrInvalidConfig }

// Unwrap returns the cause.
func (e *ConfigError) Unwrap() error { return e.Err }
