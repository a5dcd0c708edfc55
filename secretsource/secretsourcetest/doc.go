// Package secretsourcetest checks that a [secretsource.Source] keeps the
// contract, as fstest.TestFS does for file systems. Every source of smartcred
// passes it.
//
// Describe your backend by a [Harness], and run the kit in a test of yours, best
// under the race detector:
//
//	func TestConformance(t *testing.T) {
//		secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
//			backend := startBackend(t) // fresh and empty
//			return &secretsourcetest.Harness{
//				Open:        func(t *testing.T) secretsource.Source { return open(t, backend.URL, backend.Token) },
//				Set:         func(t *testing.T, value string) { backend.Put(value) },
//				HasPrevious: true,
//				Remove:      func(t *testing.T) { backend.Delete() },
//				Deny:        func(t *testing.T) func() { backend.Forbid(); return backend.Allow },
//				Stop:        func(t *testing.T) func() { backend.Stop(); return backend.Start },
//				Stall:       func(t *testing.T) func() { backend.Stall(); return backend.Resume },
//				Garble:      func(t *testing.T) func() { backend.Echo(); return backend.Heal },
//				Secrets:     []string{backend.Token},
//			}
//		})
//	}
//
// A function that your backend has no use for stays nil, and the promises that
// need it are not looked at; the others are. Give every one that you can: the
// faults are where backends go wrong.
//
// [Check] is the part that needs no harness: it looks at a Source over a backend
// that is there, such as one in production, and breaks nothing.
//
// A failure names the promise in the words of the contract, and what was seen.
// It never shows a secret.
package secretsourcetest
