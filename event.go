package smartcred

import (
	"context"
	"log/slog"
	"time"
)

// An EventKind names what happened. The names are stable: log searches and
// metrics may rely on them.
type EventKind string

// The kinds of events. The comment says when each is sent, and at which level
// [LogTo] writes it.
const (
	// EventCredentialSelected: a credential other than the last one is now in use at a server. Info.
	EventCredentialSelected EventKind = "credential_selected"
	// EventCredentialFallback: a server refused a credential and the next one is tried. Warn.
	EventCredentialFallback EventKind = "credential_fallback"
	// EventAllRefused: a server refused every credential there is. Warn.
	EventAllRefused EventKind = "all_refused"
	// EventPreviousInForce: a server still takes the previous credential only,
	// past the time that the two may overlap; once a day. Warn.
	EventPreviousInForce EventKind = "previous_in_force"
	// EventMemoryFailed: what is learned about credentials can't be kept over a
	// restart. Warn.
	EventMemoryFailed EventKind = "memory_failed"

	// EventKeyPublished: a key was seen for the first time and is in the JWK Set. Info.
	EventKeyPublished EventKind = "key_published"
	// EventKeyActivated: a key became the one that signs. Info.
	EventKeyActivated EventKind = "key_activated"
	// EventKeyRetired: a key left the JWK Set because its successors took over. Info.
	EventKeyRetired EventKind = "key_retired"
	// EventKeyRevoked: a key's backend or the configuration took it out of use. Warn.
	EventKeyRevoked EventKind = "key_revoked"
	// EventKeyLeftOut: a key exists but can't be used; Detail says why. Warn.
	EventKeyLeftOut EventKind = "key_left_out"
	// EventKeyUnannounced: a key signs, or will when its alias is moved, that was
	// not published before: servers may not have it yet. Warn.
	EventKeyUnannounced EventKind = "key_unannounced"

	// EventEndpointChanged: a server's discovery document names another origin than the pinned one. Warn.
	EventEndpointChanged EventKind = "endpoint_changed"
	// EventClockSkew: the server's clock and ours differ by more than 30 s. Warn.
	EventClockSkew EventKind = "clock_skew"
	// EventScopeReduced: a server granted less than was asked. Info.
	EventScopeReduced EventKind = "scope_reduced"

	// EventSecretRevoked: the current client secret is gone at its source, or the
	// configuration revoked it: nothing is sent in its place. Warn.
	EventSecretRevoked EventKind = "secret_revoked"
	// EventTokenDropped: the credential that a token was got with is revoked. Warn.
	EventTokenDropped EventKind = "token_dropped"

	// EventBackendDenied: a secret source or signer says that this process may not use it. Warn.
	EventBackendDenied EventKind = "backend_denied"
	// EventUnwrapFailed: a response-wrapped credential was unwrapped by somebody
	// else, has expired, or was not made where it should have been. Warn.
	EventUnwrapFailed EventKind = "unwrap_failed"
	// EventPluginMessage: a plugin program wrote a line to its standard error. Info.
	EventPluginMessage EventKind = "plugin_message"
	// EventStaleInUse: a backend can't be asked, and what it said last goes on serving. Warn.
	EventStaleInUse EventKind = "stale_in_use"
	// EventInsecurePermissions: a file's mode is wider than it should be, and was accepted. Warn.
	EventInsecurePermissions EventKind = "insecure_permissions"
)

// Level returns the level at which [LogTo] writes events of this kind.
func (k EventKind) Level() slog.Level {
	switch k {
	case EventCredentialSelected, EventKeyPublished, EventKeyActivated, EventKeyRetired, EventScopeReduced, EventPluginMessage:
		return slog.LevelInfo
	default:
		return slog.LevelWarn
	}
}

// An Event is something that happened to a credential. Fields that do not apply
// are zero. No field ever holds a secret, an assertion, a token, a code or a
// response body.
type Event struct {
	Kind EventKind

	ClientID string // the OAuth client
	Server   string // the server entry: its FHIR base URL
	Method   string // the authentication method, as in RFC 7591's token_endpoint_auth_method
	Version  string // the backend's handle of the secret or key
	KeyID    string // kid
	JTI      string // jti of the assertion concerned

	Backend              string        // which source or signer, by its URI without secrets
	BackendCorrelationID string        // the backend's request id
	ServerCorrelationID  string        // the authorization server's request id
	Skew                 time.Duration // server's clock minus ours, for EventClockSkew
	Detail               string        // one line for people
	Err                  error         // why; its text is free of secrets
}

// LogValue implements [slog.LogValuer]: the fields that are set, under their
// stable names: kind, client_id, server, method, version, kid, jti, backend,
// backend_correlation_id, server_correlation_id, skew, detail, error.
func (e Event) LogValue() slog.Value { return slog.GroupValue(e.attrs()...) }

func (e Event) attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 8)
	add := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	add("kind", string(e.Kind))
	add("client_id", e.ClientID)
	add("server", e.Server)
	add("method", e.Method)
	add("version", e.Version)
	add("kid", e.KeyID)
	add("jti", e.JTI)
	add("backend", e.Backend)
	add("backend_correlation_id", e.BackendCorrelationID)
	add("server_correlation_id", e.ServerCorrelationID)
	if e.Skew != 0 {
		attrs = append(attrs, slog.Duration("skew", e.Skew))
	}
	add("detail", e.Detail)
	if e.Err != nil {
		add("error", e.Err.Error())
	}
	return attrs
}

// An Observer is told of events. Observe is called synchronously, from any
// goroutine and sometimes from several at once: it MUST be safe for concurrent
// use, return quickly, and not call back into what reported the event.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// ObserverFunc makes an [Observer] of a function.
type ObserverFunc func(ctx context.Context, e Event)

// Observe calls f.
func (f ObserverFunc) Observe(ctx context.Context, e Event) { f(ctx, e) }

// Discard is the Observer that drops every event.
var Discard Observer = ObserverFunc(func(context.Context, Event) {})

// LogTo returns an Observer that writes events to logger, at the level of their
// kind, with the message "smartcred: " and the kind.
func LogTo(logger *slog.Logger) Observer {
	return ObserverFunc(func(ctx context.Context, e Event) {
		logger.LogAttrs(ctx, e.Kind.Level(), "smartcred: "+string(e.Kind), e.attrs()...)
	})
}

// Tee returns an Observer that tells each of observers in turn.
func Tee(observers ...Observer) Observer {
	return ObserverFunc(func(ctx context.Context, e Event) {
		for _, o := range observers {
			Notify(ctx, o, e)
		}
	})
}

// Notify tells o of e. A nil o stands for [slog.Default] as it is at that
// moment. Backends outside this module use it as the packages here do.
func Notify(ctx context.Context, o Observer, e Event) {
	if o == nil {
		o = LogTo(slog.Default())
	}
	o.Observe(ctx, e)
}
