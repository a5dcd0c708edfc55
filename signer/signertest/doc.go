// Package signertest checks that a [signer.Signer] keeps the contract, as
// fstest.TestFS does for file systems. Every signer of smartcred passes it.
//
// Describe your backend by a [Harness], and run the kit in a test of yours, best
// under the race detector:
//
//	func TestConformance(t *testing.T) {
//		signertest.Run(t, func(t *testing.T) *signertest.Harness {
//			backend := startBackend(t) // fresh, with one key
//			return &signertest.Harness{
//				Open:    func(t *testing.T) signer.Signer { return open(t, backend.URL, backend.Token) },
//				Rotate:  func(t *testing.T) { backend.NewKey() },
//				Disable: func(t *testing.T, version string) { backend.Disable(version) },
//				Deny:    func(t *testing.T) func() { backend.Forbid(); return backend.Allow },
//				Stop:    func(t *testing.T) func() { backend.Stop(); return backend.Start },
//				Stall:   func(t *testing.T) func() { backend.Stall(); return backend.Resume },
//				Garble:  func(t *testing.T) func() { backend.Echo(); return backend.Heal },
//				Secrets: []string{backend.Token},
//			}
//		})
//	}
//
// A function that your backend has no use for stays nil, and the promises that
// need it are not looked at; the others are. Give every one that you can: the
// faults are where backends go wrong.
//
// [Check] is the part that needs no harness: it looks at a Signer over a backend
// that is there, such as one in production, and breaks nothing.
//
// A failure names the promise in the words of the contract, and what was seen.
package signertest
