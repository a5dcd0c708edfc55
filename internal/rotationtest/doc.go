// Package rotationtest holds tests only. They prove what the module promises
// about rotation and revocation, through its public API alone and against
// smartauthtest's strict server:
//
//   - load_test.go: 200 callers while secrets and keys are rotated, and no call fails
//   - cutover_test.go: a server that switches before the source
//   - revokedsecret_test.go, revokedkey_test.go: every way to revoke; nothing
//     revoked is sent, signs, or is published, and its tokens are dropped
//   - keylife_test.go: next, current, previous, retired
//   - policy_test.go: what counts as a refusal, codes and refresh tokens, clocks
//   - state_test.go: restarts, overlap, status, events, when previous is looked up
//
// Nothing here measures time: but for the load, which needs a real network, all
// of it runs inside [testing/synctest].
package rotationtest
