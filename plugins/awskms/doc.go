// Package awskms signs with private keys in AWS KMS, which never leave it. Import
// it for its URIs, or make a [Signer] of a client of your own:
//
//	import _ "github.com/smartcred/smartcred/plugins/awskms"
//
//	s, err := signer.Open(ctx, "awskms:///alias/smart?region=eu-central-1", nil)
//
//	s, err := awskms.New(kms.NewFromConfig(cfg), "alias/smart", nil)
//
// A key is ECC_NIST_P384, which signs ES384, or RSA_2048, RSA_3072 or RSA_4096,
// which sign RS384, made with --key-usage SIGN_VERIFY. ECC_NIST_P256 and other
// algorithms are used only where [Options] or the configuration asks for them.
//
// # URIs
//
//	awskms:///alias/smart                 an alias; one of another account by its ARN
//	awskms:///1234abcd-12ab-…             a key id
//	awskms:///arn:aws:kms:…:key/1234abcd-…  an ARN, of a key or an alias, in any account
//
//	region=eu-central-1   of aliases and ids; else AWS_REGION or the profile's. An ARN has its own
//	next=KEY,KEY          keys to come, the nearest first: published, and not used yet
//	previous=KEY,KEY      keys that were, the latest first: used where a server refuses the current one
//	profile=NAME          of AWS's configuration files
//
// The rest is the SDK's own: credentials from the environment, a profile, a web
// identity or an instance role; AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_KMS, https
// but on loopback; AWS_USE_FIPS_ENDPOINT; AWS_CA_BUNDLE; AWS_MAX_ATTEMPTS.
//
// # Rotation
//
// An asymmetric KMS key has no versions: rotation is another key. next= and
// previous= may name aliases that are there only during a rotation, so that no
// program is configured anew for it:
//
//	awskms:///alias/smart?next=alias/smart-next&previous=alias/smart-previous
//
// To rotate, make a key with the alias smart-next, wait until servers have it,
// move the alias smart to it, and give the former key the alias smart-previous.
//
// An alias alone has no next, which a warning says
// ([smartcred.EventKeyUnannounced]): when it is moved, the new key signs before any
// server was shown it. As previous it has what this process signed with before.
//
// A key that an alias was moved to is tried before it takes the place of one
// that works. As long as it can't sign (AWS takes minutes to spread an alias, and
// the rights that depend on it) it is published as a next one, and the key that
// signed before stays current.
//
// # Errors
//
// [smartcred.ErrNotFound]: no such key or alias. [smartcred.ErrDenied]: the key is
// disabled or about to be deleted, or this process may not use it; the error
// names the IAM action and the key. [smartcred.ErrUnsupportedAlgorithm]: its spec
// or usage is another one. [smartcred.ErrUnavailable]: AWS is out of reach, slow
// or throttles; nothing is tried again beyond the SDK's own attempts. Errors hold
// AWS's request id, and nothing else of what it answered.
package awskms
