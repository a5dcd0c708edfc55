// Package vault is what the backends of HashiCorp Vault share: a client that is
// logged in and stays so, options in URIs, and errors by what Vault answered.
//
// A [Session] of a URI has a login of its own: a token, AppRole, Kubernetes or
// JWT. Sessions that log in alike share it, because Vault counts failed logins by
// role, and so does [pace]. A Session over a user's own *api.Client leaves the
// login to the user.
package vault
