package conformance

import (
	"errors"
	"fmt"
	"sync"

	"github.com/smartcred/smartcred/internal/redact"
)

// A Watch looks for secrets in every error it is shown. It is safe for
// concurrent use.
type Watch struct {
	redactor *redact.Redactor
	mu       sync.Mutex
	leaked   bool
}

// NewWatch returns a Watch for secrets, however they are encoded.
func NewWatch(secrets ...string) *Watch {
	values := make([][]byte, len(secrets))
	for i, s := range secrets {
		values[i] = []byte(s)
	}
	return &Watch{redactor: redact.New(values...)}
}

// Show looks for secrets in err, printed plainly and with its fields, and returns err.
func (w *Watch) Show(err error) error {
	if err == nil {
		return nil
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		if w.Holds(text) {
			w.mu.Lock()
			w.leaked = true
			w.mu.Unlock()
		}
	}
	return err
}

// Holds reports whether a secret is in text.
func (w *Watch) Holds(text string) bool { return w.redactor.Clean(text) != text }

// Err says whether a secret was in an error, without saying more.
func (w *Watch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leaked {
		return errors.New("an error holds a secret: errors carry no token, PIN, key, or anything a backend answered")
	}
	return nil
}
