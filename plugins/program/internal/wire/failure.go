package wire

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/strictjson"
)

// The codes of failures.
const (
	CodeNotFound             = "not_found"
	CodeDenied               = "denied"
	CodeUnavailable          = "unavailable"
	CodeInvalidConfig        = "invalid_config"
	CodeUnsupportedAlgorithm = "unsupported_algorithm"
	CodeUnsupportedProtocol  = "unsupported_protocol"
	CodeUnsupportedMethod    = "unsupported_method"
)

// A Failure is an answer that is an error. Whoever writes one says more on
// standard error, which goes to the log: errors travel too far for a text that
// nobody here has checked.
type Failure struct {
	Code       string
	RetryAfter time.Duration
}

// maxRetryAfter is the longest that a program can ask to be left alone.
const maxRetryAfter = 24 * time.Hour

func parseFailure(raw json.RawMessage) (*Failure, error) {
	o, err := strictjson.Object(raw)
	if err != nil || len(o.Duplicates) > 0 {
		return nil, violation("an error that is no JSON object, or has a member twice")
	}
	a := &Answer{obj: o}
	code, err := a.text("code", MaxName)
	if err != nil {
		return nil, err
	}
	f := &Failure{Code: code}
	if _, ok := o.Raw("retry_after_ms"); ok {
		ms, err := a.integer("retry_after_ms", uint64(maxRetryAfter.Milliseconds()))
		if err != nil {
			return nil, err
		}
		f.RetryAfter = time.Duration(ms) * time.Millisecond
	}
	return f, nil
}

// Err returns the failure as an error of package smartcred.
func (f *Failure) Err() error {
	switch f.Code {
	case CodeNotFound:
		return smartcred.ErrNotFound
	case CodeDenied:
		return smartcred.ErrDenied
	case CodeUnavailable:
		return &smartcred.UnavailableError{RetryAfter: f.RetryAfter, Err: errors.New("the program says so")}
	case CodeInvalidConfig:
		return &smartcred.ConfigError{Problem: "the program can't work as it is configured: plugin_message events hold what it says"}
	case CodeUnsupportedAlgorithm:
		return smartcred.ErrUnsupportedAlgorithm
	case CodeUnsupportedProtocol:
		return &smartcred.ConfigError{Problem: "the program speaks no version of the plugin protocol that is spoken here (1): update the older of the two"}
	case CodeUnsupportedMethod:
		return &smartcred.ConfigError{Problem: "the program does not do that: a signer is asked for secrets, or the other way round"}
	default: // of a later version
		return &smartcred.UnavailableError{RetryAfter: f.RetryAfter, Err: errors.New("the program failed with a code that is not known here")}
	}
}

// FailureOf returns the failure that tells of err.
func FailureOf(err error) *Failure {
	f := &Failure{Code: CodeUnavailable}
	var unavailable *smartcred.UnavailableError
	switch {
	case errors.As(err, &unavailable):
		f.RetryAfter = unavailable.RetryAfter
	case errors.Is(err, smartcred.ErrNotFound):
		f.Code = CodeNotFound
	case errors.Is(err, smartcred.ErrDenied):
		f.Code = CodeDenied
	case errors.Is(err, smartcred.ErrUnsupportedAlgorithm):
		f.Code = CodeUnsupportedAlgorithm
	case errors.Is(err, smartcred.ErrInvalidConfig):
		f.Code = CodeInvalidConfig
	}
	return f
}

// Members returns the failure as an answer's members.
func (f *Failure) Members() map[string]any {
	e := map[string]any{"code": f.Code}
	if ms := min(f.RetryAfter, maxRetryAfter).Milliseconds(); ms > 0 {
		e["retry_after_ms"] = ms
	}
	return map[string]any{"error": e}
}
