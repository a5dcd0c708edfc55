package pkcs11

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

const (
	defaultMaxSessions = 8
	defaultTimeout     = 30 * time.Second
)

// Options say which keys of which token sign. Module and Key are required.
type Options struct {
	// Module is the absolute path of the HSM's PKCS#11 library.
	Module string
	// Token says which token; the zero value: the only one there is.
	Token TokenSelector
	// Key says which keys. Several may match, see the package documentation.
	Key KeySelector
	// Next and Previous name the key that signs after those of Key, and the one
	// that signed before; the zero value: none.
	Next, Previous KeySelector
	// PIN is asked for the user PIN at each login, for its current value only.
	// nil: no login, which shows only keys with CKA_PRIVATE false. Whoever
	// opened it closes it.
	PIN secretsource.Source
	// TryLowPIN tries the PIN also where the token says that an attempt has
	// failed since the last login (CKF_USER_PIN_COUNT_LOW).
	TryLowPIN bool
	// Algorithm is what the keys sign with; empty: RS384 or ES384, as the key is.
	Algorithm signer.Algorithm
	// MaxSessions is how many sessions are used at once, beside the one that
	// holds the login; 0: 8. A lower limit of the token's counts.
	MaxSessions int
	// Timeout bounds a connection's making: finding the token, PIN look-up and
	// login; 0: 30 seconds. A call in the library that hangs is not ended by it.
	Timeout time.Duration
	// Observer is told of events; nil: slog's default logger.
	Observer smartcred.Observer
}

// A TokenSelector says which token: one of which everything that is set is true.
type TokenSelector struct {
	Label, Serial, Manufacturer, Model string
	// Slot is the slot's number; nil: any slot.
	Slot *uint

	// empty are the attributes that a URI states as empty: the token has none.
	empty []string
}

// A KeySelector says which keys: those of which everything that is set is true.
type KeySelector struct {
	Label string // CKA_LABEL
	ID    []byte // CKA_ID
}

// IsZero reports whether nothing is set.
func (k KeySelector) IsZero() bool { return k.Label == "" && len(k.ID) == 0 }

// String returns the selector as the attributes of a pkcs11: URI.
func (k KeySelector) String() string {
	return attributes(attribute{"object", k.Label}, attribute{"id", string(k.ID)})
}

// String returns the selector as the attributes of a pkcs11: URI.
func (t TokenSelector) String() string {
	slot := ""
	if t.Slot != nil {
		slot = fmt.Sprint(*t.Slot)
	}
	text := attributes(attribute{"token", t.Label}, attribute{"serial", t.Serial},
		attribute{"manufacturer", t.Manufacturer}, attribute{"model", t.Model}, attribute{"slot-id", slot})
	for _, name := range t.empty {
		text += ";" + name + "="
	}
	return strings.TrimPrefix(text, ";")
}

// backend names the signer in events: its URI without the query.
func (o *Options) backend() string {
	token := o.Token.String()
	if token != "" {
		token += ";"
	}
	return scheme + ":" + token + o.Key.String()
}

// check says what is wrong with the options, and sets the defaults.
func (o *Options) check() error {
	var errs []error
	wrong := func(option, problem string) {
		errs = append(errs, &smartcred.ConfigError{Option: option, Problem: problem})
	}
	switch {
	case o.Module == "":
		wrong("module-path", "is missing: the absolute path of the HSM's PKCS#11 library")
	case !filepath.IsAbs(o.Module):
		wrong("module-path", "is not an absolute path: a library is not searched for")
	}
	if o.Key.IsZero() {
		wrong("object", "neither object (the key's label) nor id (its CKA_ID) is given")
	}
	if o.Algorithm != "" && o.Algorithm.Hash() == 0 {
		errs = append(errs, fmt.Errorf("%w: no such algorithm here; there are RS384, ES384, RS256, RS512, PS384, ES256", smartcred.ErrUnsupportedAlgorithm))
	}
	if o.MaxSessions < 0 {
		wrong("MaxSessions", "is negative")
	}
	if o.MaxSessions == 0 {
		o.MaxSessions = defaultMaxSessions
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	return errors.Join(errs...)
}
