// Package fositetest is an authorization server for tests that nobody here wrote:
// ory/fosite, running in-process behind httptest, over TLS or over http on
// loopback. What SMART App Launch adds to OAuth (discovery document, aud, launch
// context, FHIR base) is a small front around it; grants, client authentication,
// PKCE, refresh token rotation, reuse detection and id tokens are fosite's own.
package fositetest
