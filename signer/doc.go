// Package signer makes client assertions: JWTs signed with private keys that may
// stay where they are kept.
//
// A [Signer] lists keys and signs with them. [Open] makes one from a URI, [File]
// from a key file, [FromCryptoSigner] from any crypto.Signer; plugins add Vault,
// AWS KMS, HSMs and programs in other languages. A [KeySet] over it is what
// signs assertions and what serves the JWK Set, so that both agree:
//
//	s, err := signer.Open(ctx, "file:///etc/app/key.pem", nil)
//	...
//	keys, err := signer.NewKeySet(s, nil)
//	...
//	defer keys.Close()
//	key, err := keys.Signing(ctx, nil)
//	...
//	assertion := signer.Assertion{ClientID: "my-app", Audience: tokenEndpoint}
//	jwt, jti, err := assertion.Sign(ctx, keys, key)
//
// and http.Handle("/.well-known/jwks.json", keys.Handler(ctx)) serves the set.
//
// # Algorithms
//
// A key signs with RS384 (RSA of 2048 to 8192 bits) or ES384 (P-384), as it is;
// with RS256, RS512, PS384 or ES256 only where that is asked for by name. A key
// that does not fit is [smartcred.ErrUnsupportedAlgorithm], see [AlgorithmFor].
// Signatures are in JWS form, RFC 7518 section 3: [RawFromDER] converts what
// backends answer in DER, and [Verify] checks.
//
// # Rotation
//
// A key file key.pem has neighbours: key.pem.next is published and not used,
// key.pem.previous was current before. To rotate, put the new key into
// key.pem.next, wait until servers have fetched the JWK Set, then rename key.pem
// to key.pem.previous and key.pem.next to key.pem. [KeySet] tells how long keys
// of other backends stay.
//
// # Errors
//
// Errors match the sentinels of package smartcred, or [ErrBadSignature]. They
// never hold a private key, a passphrase or a URI.
package signer
