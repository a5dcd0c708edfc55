// Package smartauthtest is a SMART App Launch 2.2 authorization server with a
// small FHIR server behind it, for tests: what [net/http/httptest] is for HTTP.
//
//	srv := smartauthtest.NewServer(t, nil)
//	srv.AddClient(smartauthtest.Client{ID: "my-app", JWKS: publicSet, Scopes: []string{"system/*.rs"}})
//	// point the client under test at srv.URL, with srv.Client() or any other HTTP client
//
// It is strict: where SMART or an RFC says SHALL or MUST, a request that does
// otherwise is refused, also where most servers let it pass. It refuses a client
// assertion without kid or typ, with an aud that is not exactly the URL posted
// to, with exp more than 5 minutes ahead or with a jti seen before; two
// authentication methods in one request; Basic credentials in the wrong
// encoding; a parameter sent twice; a short state; a code or refresh token used
// twice. [Request.Reason] and the error_description say what was wrong.
//
// It keeps what it was sent ([Server.Requests]), misbehaves to order
// ([Server.Fail]), and its clients' secrets and keys change while it runs
// ([Server.SetSecrets], [Server.SetJWKS]).
//
// # Without a network
//
// [NewUnstarted] makes a server that listens nowhere: [Server.Client] and
// [Server.Transport] hand requests straight to its handler. It waits on nothing
// but timers and channels, so that inside a [testing/synctest] bubble days pass
// in no time. Make the server inside the bubble.
//
// In FIPS 140-3 mode build such tests with GOFIPS140=v1.0.0: the module in Go 1.26
// itself draws entropy from the clock's jitter, and panics where the clock stands.
//
// # Sources
//
// SMART App Launch 2.2.0 (conformance, app-launch, backend-services,
// client-confidential-symmetric, client-confidential-asymmetric,
// token-introspection); RFC 6749, 6750, 7009, 7515, 7517, 7523, 7636, 7662, 9207;
// OpenID Connect Core 1.0.
//
// The package uses go-jose and the standard library only and none of this
// module's packages, because it is their judge.
package smartauthtest
