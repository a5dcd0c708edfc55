// Package vaulttransit signs with keys in HashiCorp Vault's Transit secrets
// engine. The private key never leaves Vault: what is sent is the digest of what
// is to be signed, and what comes back is the signature.
//
//	client, err := api.NewClient(nil) // your own, with your own login
//	...
//	s, err := vaulttransit.New(client, "smart", nil)
//	...
//	jwt, err := provider.NewPrivateKeyJWT(s, nil)
//
// With the package imported, [signer.Open] and the command line take
//
//	vault-transit://MOUNT/KEY?OPTIONS
//
// where MOUNT may have slashes, since keys have none. The options, all percent-encoded:
//
//	address                   Vault's URL; without it VAULT_ADDR
//	namespace                 Vault's namespace; without it VAULT_NAMESPACE
//	mount                     the mount, where that is to be said apart from the key
//	version                   the key version that signs, see below
//	auth                      token, approle, kubernetes or jwt; without it what the others imply, else token
//	auth_mount                where the auth method is mounted; without it its name
//	role                      the role to log in to (kubernetes, jwt); for approle the name that a
//	                          wrapped secret id must have been made for
//	role_id, role_id_file     AppRole's role id: itself or a secret source's URI; a file
//	secret_id, secret_id_file                    AppRole's secret id: a secret source's URI; a file
//	wrapped_secret_id, wrapped_secret_id_file    the same, response-wrapped
//	token_file                a token, as Vault Agent's sink writes it; read again when it changes
//	jwt_file                  the JWT to log in with; for kubernetes the service account's is the default
//
// VAULT_TOKEN, VAULT_NAMESPACE, client certificate and VAULT_HEADERS go to
// VAULT_ADDR only. VAULT_CACERT, VAULT_CAPATH, VAULT_TLS_SERVER_NAME,
// VAULT_CLIENT_TIMEOUT, VAULT_MAX_RETRIES and VAULT_PROXY_ADDR hold everywhere.
//
// # Keys
//
// Keys of type rsa-2048, rsa-3072 and rsa-4096 sign RS384, ecdsa-p384 signs
// ES384; ecdsa-p256 and other algorithms of RSA keys only where they are asked
// for. Every version of the key is a [signer.Key]; its Version is the version's
// number, its kid the RFC 7638 thumbprint.
//
// `vault write -f transit/keys/KEY/rotate` makes the next key. Where servers fetch
// the JWK Set by URL ([Options].PublishFor, jwks_url in a configuration) it is
// published at once and signs after PublishFor. Where keys are registered by hand
// it is published and signs only once a server refuses the older one, or once
// version=N names it, or when min_encryption_version leaves no older one. Versions
// below min_encryption_version, and those that were trimmed, are gone: that is how
// a version is revoked.
//
// # Logging in
//
// Signers and sources of one process that log in alike share one token. It is
// renewed ahead of its end, or replaced, on one goroutine that the last Close
// ends; Close revokes a token that was got here. When Vault answers 403 there is
// one new login for all callers, and the call is made once more.
//
// After a failed login it is tried again after 5 s, 30 s and 2 min, then every 16
// min, so that Vault's lock-out of roles (5 failures within 15 minutes) never
// sets in; another role id, secret id or JWT, or [Signer.Reset], ends the wait.
// Several processes under one role share Vault's count: let them start one after
// the other when a secret id is new, or give each its own role.
//
// # Errors
//
// [smartcred.ErrNotFound]: no such key, version or secrets engine.
// [smartcred.ErrDenied]: Vault refused, and the error names the path and the
// policy capability; or the version is below min_encryption_version; or the
// login failed. [smartcred.ErrUnavailable]: Vault is sealed, a standby, behind a
// quota (with its Retry-After), cut off, or something else answered in its place.
// No error holds a token, a secret id, or text that Vault sent.
package vaulttransit
