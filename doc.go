// Package smartcred holds what every package of the module shares: the errors
// they return and the events they report. It imports the standard library only.
//
// Programs start at one of the packages below it:
//
//   - smartauth: the SMART on FHIR client: discovery, launch, tokens, an [net/http.Client]
//   - provider: how a client proves its identity at a token endpoint
//   - secretsource: where client secrets are looked up
//   - signer: where JWTs are signed
//
// # Errors
//
// The sentinels are matched with [errors.Is]. They form a closed set: a backend
// maps whatever its own system answers onto one of them, and keeps the
// system's error reachable through [errors.As].
//
// # Events
//
// An [Observer] is told of the things a security engineer wants to see: which
// credential is in use, what a server refused, which keys are published. Where
// no observer is set, events go to [log/slog.Default]. [Discard] turns them off.
package smartcred
