package provider

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

const redacted = "[redacted]"

// A Method is a client authentication method by its RFC 7591 name.
type Method string

// The methods of SMART App Launch.
const (
	MethodNone              Method = "none"                // public client: client_id in the body
	MethodClientSecretBasic Method = "client_secret_basic" // RFC 6749 section 2.3.1, Authorization header
	MethodClientSecretPost  Method = "client_secret_post"  // RFC 6749 section 2.3.1, in the body
	MethodPrivateKeyJWT     Method = "private_key_jwt"     // RFC 7523 section 2.2, as SMART profiles it
)

// A Credential is one proof of identity, made for one request. It prints as
// [redacted] everywhere but in its exported fields, which are for logs.
type Credential struct {
	// Method is how the client authenticates.
	Method Method
	// Version is the backend's handle of the secret or key behind it.
	Version string
	// KeyID and JTI are the assertion's kid and jti; empty for other methods.
	KeyID, JTI string
	// Identity is what [Checker] knows the secret or key behind it by, in this
	// process: opaque, and nothing secret.
	Identity string

	material func() material
}

type material struct {
	header    http.Header
	params    url.Values
	sensitive [][]byte
}

// CredentialOptions are what a [Credential] is made of. They print as
// [redacted], but not inside unexported fields: keep the Credential instead.
type CredentialOptions struct {
	Method     Method
	Version    string
	KeyID, JTI string
	Identity   string
	// Header and Params are added to the request.
	Header http.Header
	Params url.Values
	// Sensitive are the values that must never show in a log or error: the
	// secret, the assertion. They are searched for in what the server answers.
	Sensitive [][]byte
}

// Format implements [fmt.Formatter]: the method, and [redacted].
func (o CredentialOptions) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, string(o.Method)+" "+redacted)
}

// LogValue implements [slog.LogValuer].
func (o CredentialOptions) LogValue() slog.Value { return NewCredential(o).LogValue() }

// MarshalText implements [encoding.TextMarshaler], for JSON, XML and YAML too.
func (o CredentialOptions) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// NewCredential returns a Credential that holds copies of what o has.
func NewCredential(o CredentialOptions) Credential {
	m := material{header: o.Header.Clone(), params: cloneValues(o.Params)}
	for _, s := range o.Sensitive {
		if len(s) > 0 {
			m.sensitive = append(m.sensitive, bytes.Clone(s))
		}
	}
	return Credential{
		Method: o.Method, Version: o.Version, KeyID: o.KeyID, JTI: o.JTI, Identity: o.Identity,
		material: func() material { return m },
	}
}

// Apply puts the credential into a request's header and form.
func (c Credential) Apply(header http.Header, form url.Values) {
	if c.material == nil {
		return
	}
	m := c.material()
	for name, values := range m.header {
		header[name] = slices.Clone(values)
	}
	for name, values := range m.params {
		form[name] = slices.Clone(values)
	}
}

// Sensitive returns copies of the values that must not show anywhere.
func (c Credential) Sensitive() [][]byte {
	if c.material == nil {
		return nil
	}
	var out [][]byte
	for _, s := range c.material().sensitive {
		out = append(out, bytes.Clone(s))
	}
	return out
}

// Format implements [fmt.Formatter]: the method, and [redacted].
func (c Credential) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, string(c.Method)+" "+redacted)
}

// LogValue implements [slog.LogValuer].
func (c Credential) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("method", string(c.Method)), slog.String("version", c.Version),
		slog.String("kid", c.KeyID), slog.String("jti", c.JTI))
}

func cloneValues(v url.Values) url.Values {
	out := maps.Clone(v)
	for name, values := range out {
		out[name] = slices.Clone(values)
	}
	return out
}
