// Package canary holds one test and no code: TestCanary drives the public
// packages and the command line with known secrets, keys, tokens, codes,
// verifiers, assertions and passphrases, at servers that repeat what they get,
// and looks for these values in whatever a program could log: errors, events,
// slog, values printed or encoded, panics, files, a command's output.
//
// A new exported type of a public package has to be listed in the test, among
// those that hold something secret or those that do not.
package canary
