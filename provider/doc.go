// Package provider proves a client's identity at a token endpoint.
//
// A [Provider] is one of SMART App Launch's client authentication methods:
//
//   - [Public]: none
//   - [ClientSecretBasic]: client_secret_basic, RFC 6749 section 2.3.1
//   - [ClientSecretPost]: client_secret_post, RFC 6749 section 2.3.1
//   - [PrivateKeyJWT]: private_key_jwt, RFC 7523 section 2.2
//
// [New] chooses from what a configuration has. One provider serves any number of
// clients and servers:
//
//	keys, err := signer.File("key.pem", nil)
//	…
//	p, err := provider.NewPrivateKeyJWT(keys, nil)
//
// A provider that none of these covers implements one method, and builds what it
// sends with [NewCredential].
//
// OAuth's error answers are [TokenError] values, which match the sentinels of
// this package with [errors.Is]. Where there was no credential to send the error
// is a [CredentialError].
package provider
