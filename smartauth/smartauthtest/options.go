package smartauthtest

import (
	"crypto/rsa"
	"net/http"
	"net/url"
	"time"
)

// An Encoding says how client_secret_basic encodes client id and secret before
// base64.
type Encoding string

const (
	// RFC6749 is form encoding first (RFC 6749 section 2.3.1): the default.
	// Characters that form encoding escapes are refused when they come raw.
	RFC6749 Encoding = "rfc6749"
	// Raw is id and secret as they are (RFC 7617), as many servers expect.
	Raw Encoding = "raw"
)

// Options change a server's behaviour. The zero value, and nil, is a strict
// server with SMART's defaults. The functions among them are called from
// several goroutines at once.
type Options struct {
	// URL is the FHIR base URL of a server made by [NewUnstarted], without a
	// final slash; "https://ehr.example.test/fhir/r4" if empty. Others take
	// only its path.
	URL string
	// TLS makes the server speak https, with httptest's certificate, which
	// [Server.Client] trusts.
	TLS bool
	// Clock is the time for all decisions and the Date header; time.Now if nil.
	Clock func() time.Time
	// Seed makes [Fault.OneIn] repeatable.
	Seed uint64
	// HTTPClient fetches clients' JWK Sets; one with a time-out of 10 s if nil.
	HTTPClient *http.Client
	// MaxRequests is how many requests [Server.Requests] keeps, the newest;
	// 10,000 if 0, none if negative. Counts go on regardless.
	MaxRequests int

	// TokenLifetime is how long access tokens live; 300 s if 0.
	TokenLifetime time.Duration
	// CodeLifetime is how long authorization codes live; 1 minute if 0.
	CodeLifetime time.Duration
	// RefreshLifetime is how long refresh tokens live; without end if 0.
	RefreshLifetime time.Duration
	// KeepRefreshTokens turns the rotation of refresh tokens off: one may be
	// used again and again, and no new one is issued.
	KeepRefreshTokens bool

	// Audience is the aud that assertions must carry; if empty, the URL that
	// the request was posted to (at the introspection and revocation endpoints
	// the token URL will do too).
	Audience string
	// Algorithms are the JWS algorithms taken in client assertions; RS384 and
	// ES384 if empty.
	Algorithms []string
	// MaxAssertionLifetime is how far ahead exp may be on receipt; 5 minutes if 0.
	MaxAssertionLifetime time.Duration
	// Leeway is how far the client's clock may be off where exp, iat and nbf are
	// compared with now; 5 s if 0, none if negative. It does not widen
	// MaxAssertionLifetime.
	Leeway time.Duration
	// RefetchUnknownKey fetches a JWK Set again for a kid that it lacks, before
	// its max-age is over.
	RefetchUnknownKey bool
	// BasicEncoding is how Basic credentials are decoded, for clients that do
	// not say; RFC6749 if empty.
	BasicEncoding Encoding
	// InvalidClientStatus is the status of invalid_client where the client did
	// not use the Authorization header: 401 (if 0) or 400.
	InvalidClientStatus int

	// IssParameter adds iss to the authorization response (RFC 9207).
	IssParameter bool
	// Launch is the context of launches that begin outside the EHR. If its
	// Patient is empty it is "pat-1", if its FHIRUser is, "Practitioner/prac-1".
	Launch Launch
	// SigningKey signs id_tokens (RS256); if nil an RSA-2048 key is made when
	// first needed.
	SigningKey *rsa.PrivateKey

	// ModifyToken may change the members of a token answer before it is sent:
	// a string for expires_in, no scope, members of one's own.
	ModifyToken func(members map[string]any)
	// ModifyIDToken may change the claims of an id_token before it is signed.
	ModifyIDToken func(claims map[string]any)
	// ModifyCallback may change the parameters of the authorization response.
	ModifyCallback func(params url.Values)
}

// A Launch is the context of an app launch, as the token answer gives it. Empty
// members are left out.
type Launch struct {
	Patient           string           // logical id
	Encounter         string           // logical id
	FHIRContext       []map[string]any // each with reference, canonical or identifier
	NeedPatientBanner *bool
	Intent            string
	SmartStyleURL     string
	Tenant            string
	Subject           string         // sub of the id_token; "user-1" if empty
	FHIRUser          string         // such as "Practitioner/prac-1"; the claim is absolute
	Extra             map[string]any // more members of the token answer
}

func (o *Options) withDefaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	if d.HTTPClient == nil {
		d.HTTPClient = &http.Client{Timeout: 10 * time.Second}
	}
	setDefault(&d.URL, "https://ehr.example.test/fhir/r4")
	setDefault(&d.MaxRequests, 10_000)
	setDefault(&d.TokenLifetime, 300*time.Second)
	setDefault(&d.CodeLifetime, time.Minute)
	setDefault(&d.MaxAssertionLifetime, 5*time.Minute)
	setDefault(&d.Leeway, 5*time.Second)
	d.Leeway = max(d.Leeway, 0)
	setDefault(&d.BasicEncoding, RFC6749)
	setDefault(&d.InvalidClientStatus, http.StatusUnauthorized)
	setDefault(&d.Launch.Patient, "pat-1")
	setDefault(&d.Launch.FHIRUser, "Practitioner/prac-1")
	if len(d.Algorithms) == 0 {
		d.Algorithms = []string{"RS384", "ES384"}
	}
	return d
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
