//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred"
)

// lost are answers after which sessions, handles, the login or the device may not
// be what they were: connecting again may help.
var lost = []cryptoki.Error{
	cryptoki.CKR_SESSION_HANDLE_INVALID, cryptoki.CKR_SESSION_CLOSED,
	cryptoki.CKR_OBJECT_HANDLE_INVALID, cryptoki.CKR_KEY_HANDLE_INVALID,
	cryptoki.CKR_USER_NOT_LOGGED_IN, cryptoki.CKR_SLOT_ID_INVALID,
	cryptoki.CKR_TOKEN_NOT_PRESENT, cryptoki.CKR_TOKEN_NOT_RECOGNIZED,
	cryptoki.CKR_DEVICE_REMOVED, cryptoki.CKR_DEVICE_ERROR,
	cryptoki.CKR_CRYPTOKI_NOT_INITIALIZED,
	cryptoki.CKR_GENERAL_ERROR, cryptoki.CKR_FUNCTION_FAILED,
}

// denied are answers that do not change by asking again.
var denied = []cryptoki.Error{
	cryptoki.CKR_KEY_FUNCTION_NOT_PERMITTED, cryptoki.CKR_USER_NOT_LOGGED_IN,
	cryptoki.CKR_USER_PIN_NOT_INITIALIZED, cryptoki.CKR_USER_TYPE_INVALID,
	cryptoki.CKR_FUNCTION_REJECTED,
}

// refusedPIN are C_Login's answers that say that this PIN is not to be sent again.
var refusedPIN = []cryptoki.Error{
	cryptoki.CKR_PIN_INCORRECT, cryptoki.CKR_PIN_INVALID, cryptoki.CKR_PIN_LEN_RANGE,
	cryptoki.CKR_PIN_EXPIRED, cryptoki.CKR_PIN_LOCKED, cryptoki.CKR_ARGUMENTS_BAD,
}

// innocent are C_Login's answers that no wrong PIN gives: the PIN was not looked at.
var innocent = []cryptoki.Error{
	cryptoki.CKR_SESSION_HANDLE_INVALID, cryptoki.CKR_SESSION_CLOSED,
	cryptoki.CKR_SLOT_ID_INVALID, cryptoki.CKR_TOKEN_NOT_PRESENT,
	cryptoki.CKR_TOKEN_NOT_RECOGNIZED, cryptoki.CKR_DEVICE_REMOVED,
	cryptoki.CKR_CRYPTOKI_NOT_INITIALIZED, cryptoki.CKR_HOST_MEMORY,
	cryptoki.CKR_USER_ANOTHER_ALREADY_LOGGED_IN, cryptoki.CKR_USER_TOO_MANY_TYPES,
	cryptoki.CKR_USER_PIN_NOT_INITIALIZED, cryptoki.CKR_FUNCTION_NOT_SUPPORTED,
}

// unfit are answers that say that the key or the token can't do what is asked.
var unfit = []cryptoki.Error{
	cryptoki.CKR_MECHANISM_INVALID, cryptoki.CKR_MECHANISM_PARAM_INVALID,
	cryptoki.CKR_KEY_TYPE_INCONSISTENT, cryptoki.CKR_KEY_SIZE_RANGE,
}

// isOne reports whether err is one of the library's answers in list.
func isOne(err error, list []cryptoki.Error) bool {
	var code cryptoki.Error
	return errors.As(err, &code) && slices.Contains(list, code)
}

func isCode(err error, code cryptoki.Error) bool { return isOne(err, []cryptoki.Error{code}) }

// failed names what the library was asked for when it answered err, and makes it
// match the sentinel that says what may help.
func failed(verb string, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case isOne(err, denied), isOne(err, refusedPIN):
		return fmt.Errorf("%s: %w: %w", verb, smartcred.ErrDenied, err)
	case isOne(err, unfit):
		return fmt.Errorf("%s: %w: %w", verb, smartcred.ErrUnsupportedAlgorithm, err)
	default:
		return &smartcred.UnavailableError{Err: fmt.Errorf("%s: %w", verb, err)}
	}
}

// list joins at most a few, for an error.
func list(names []string) string {
	const most = 5
	if n := len(names); n > most {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("%d more", n-most))
	}
	return strings.Join(names, ", ")
}
