// Package awssecretsmanager looks client secrets up in AWS Secrets Manager.
// Import it for its URIs, or make a [Source] of a client of your own:
//
//	import _ "github.com/smartcred/smartcred/plugins/awssecretsmanager"
//
//	src, err := secretsource.Open(ctx, "awssecretsmanager:///smart/my-app?region=eu-central-1#client_secret", nil)
//
//	src, err := awssecretsmanager.New(secretsmanager.NewFromConfig(cfg), "smart/my-app", nil)
//
// # Stages
//
// The current secret is the version with the label AWSCURRENT, the previous one
// that with AWSPREVIOUS, which AWS moves along; it is read only when it is asked
// for. AWSPENDING is never read: a server does not know that one yet. A Secret's
// Version is the VersionId.
//
// Secrets Manager does not tell when a version became current. Created is when
// the version was made or, where this process saw another one current after that,
// when it saw that last.
//
// # URIs
//
//	awssecretsmanager:///smart/my-app              the whole value, text (less one newline at its end) or binary
//	awssecretsmanager:///smart/my-app#client_secret  a member of the JSON object in it
//	awssecretsmanager:///arn:aws:secretsmanager:…    by ARN, in any account
//
//	region=eu-central-1   else an ARN's, AWS_REGION or the profile's
//	profile=NAME          of AWS's configuration files
//
// A name that begins with a slash has four of them: awssecretsmanager:////smart.
// The rest is the SDK's own: credentials from the environment, a profile, a web
// identity or an instance role; AWS_ENDPOINT_URL and
// AWS_ENDPOINT_URL_SECRETS_MANAGER, https but on loopback; AWS_USE_FIPS_ENDPOINT;
// AWS_CA_BUNDLE; AWS_MAX_ATTEMPTS.
//
// # Errors
//
// [smartcred.ErrNotFound]: no such secret, none at that stage, or its deletion is
// scheduled. [smartcred.ErrDenied]: this process may not read it, or its KMS key
// can't decrypt it. [smartcred.ErrUnavailable]: AWS is out of reach, slow or
// throttles; nothing is tried again beyond the SDK's own attempts. The words tell
// them apart; errors hold AWS's request id, and nothing else of what it answered.
package awssecretsmanager
