// Package conformance is what the kits that check signers and secret sources
// share: errors that are watched for secrets, callers that all arrive at once,
// how soon a cancelled call comes back, and goroutines that stay behind.
package conformance
