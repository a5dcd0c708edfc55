package secretsource

import "context"

// A Stage says which of a source's secrets is meant.
type Stage int

const (
	// Current is the secret to use.
	Current Stage = iota
	// Previous is the secret that was current before: servers that have not
	// switched yet still take it.
	Previous
)

// String returns "current" or "previous".
func (s Stage) String() string {
	switch s {
	case Current:
		return "current"
	case Previous:
		return "previous"
	default:
		return "unknown stage"
	}
}

// A Source looks up a client secret that another system keeps.
//
// Implementations MUST be safe for concurrent use, honour ctx, and not cache
// values: [Cache] does. An implementation that holds resources also implements
// [io.Closer]; whoever opened it closes it, wrappers forward the call, and
// after it Lookup returns [smartcred.ErrClosed].
type Source interface {
	// Lookup returns the secret at a stage.
	//
	// A stage that does not exist is [smartcred.ErrNotFound]; one that this
	// process may not read is [smartcred.ErrDenied]. Both are answers. Only
	// [smartcred.ErrUnavailable] means "ask again later". No error holds the
	// secret or anything else the backend's answer contained.
	Lookup(ctx context.Context, stage Stage) (Secret, error)
}
