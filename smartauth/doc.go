// Package smartauth logs a program in to SMART on FHIR servers: as a backend
// service, or for a user whose browser launches it. A [Client] discovers what a
// server can do, asks a [provider.Provider] to prove who the program is, and
// keeps tokens: what it hands out is an [http.Client] whose requests carry a
// valid one.
//
//	client, err := smartauth.NewClient(smartauth.Config{
//		BaseURL:  "https://ehr.example.org/fhir/r4",
//		ClientID: "my-app",
//		Scopes:   []string{smartauth.ScopeSystemRead},
//		Provider: proof, // provider.NewPrivateKeyJWT(key, nil), for example
//	})
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	resp, err := client.HTTPClient().Get("https://ehr.example.org/fhir/r4/Patient")
//
// # Backend services
//
// [Client.Token], [Client.TokenSource] and [Client.HTTPClient] get tokens by
// client_credentials. A token is renewed before it ends (by 60 s or a fifth of
// its life, whichever is less), by one request for all callers, while the old
// one serves on.
//
// # Users
//
// [Client.StartLaunch] makes the URL to send the browser to, [Client.Exchange]
// takes the callback. Between the two the [Launch] lives where only that browser
// session finds it; [Launch.Save] and [RestoreLaunch] carry it between processes.
// The [Token] has the launch context and, with the scope openid, the user's
// [Identity]. [Client.SessionSource] keeps the session alive by its refresh
// token and stores each new one before it is used; [Token.Save] and
// [RestoreToken] carry it over a restart.
//
// # Where credentials go
//
// Everything is https, TLS 1.2 or later; http is for loopback, where
// [Config.AllowInsecureLoopback] allows it. Token requests follow no redirect.
// The origins of the token and authorization endpoints that discovery names
// first are pinned for the life of a Client, and so is the issuer; another one is
// an event, and gets no secret, code or token. [Config.AllowedAuthHosts], stated
// endpoints and [Config.Issuer] say otherwise. The access token goes to the FHIR
// base URL and [Config.FHIRPrefixes] only.
//
// # Units
//
// Durations are [time.Duration] and times [time.Time], with JSON's seconds
// converted. Zero durations in a [Config] stand for the defaults it names. At
// most 1 MiB is read of any answer of an authorization server.
//
// # Errors
//
//   - What the server said: [provider.TokenError] (an OAuth error, which matches
//     [provider.ErrInvalidClient] and the like) and [CallbackError].
//   - It could not be asked, or its answer is none: [ServerError].
//   - [ErrGrantUncertain]: a code or refresh token may have been used up.
//   - [ErrEndpointNotAllowed], [ErrIssuerMismatch], [ErrState],
//     [ErrLaunchExpired], [ErrIDToken]: something does not fit, and nothing was
//     sent, or nothing was believed.
//   - [ErrNotSupported]: the server has no such endpoint.
//   - [smartcred.ErrInvalidConfig], with all that is wrong in one error, and
//     [smartcred.ErrClosed] after [Client.Close].
//
// No error holds a credential, a token, or an answer's body.
//
// # Concurrency
//
// Clients, sources and transports are safe for concurrent use; tokens,
// identities and configurations are immutable and shared. Every caller waits on
// its own context only: one that gives up does not take the request from the
// others. A Client has no goroutine unless a request is in flight.
//
// # Sources
//
// SMART App Launch 2.2.0; RFC 6749 and 6750 (OAuth 2.0), 7009 (revocation), 7523
// (assertions), 7636 (PKCE), 7662 (introspection), 9207 (iss); OpenID Connect
// Core 1.0 and Discovery 1.0. Package
// [github.com/smartcred/smartcred/smartauth/smartauthtest] has a server for tests.
package smartauth
