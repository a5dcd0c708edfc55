// Package fosite holds tests that log in, through smartcred's public API only,
// at an authorization server that nobody here wrote: ory/fosite, running
// in-process behind httptest, over TLS and over http on loopback. What SMART
// App Launch adds to OAuth (discovery document, aud, launch context, FHIR base)
// is a small front around it; grants, client authentication, PKCE, refresh
// token rotation, reuse detection and id tokens are fosite's own.
package fosite
