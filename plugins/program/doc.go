// Package program lets programs in any language be signers and secret sources.
// Importing it teaches [signer.Open] and [secretsource.Open] the scheme plugin:
//
//	import _ "github.com/smartcred/smartcred/plugins/program"
//
//	s, err := signer.Open(ctx, "plugin://keyhouse/smart/key", &signer.OpenOptions{
//		OpenOptions: secretsource.OpenOptions{Plugins: map[string]secretsource.Plugin{
//			"keyhouse": {Path: "/usr/libexec/smartcred-plugin-keyhouse", SHA256: "9f86…0a08", Env: []string{"KEYHOUSE_URL"}},
//		}},
//	})
//
// Programs speak JSON lines on standard input and output: docs/plugin-protocol.md
// has the protocol, package pluginmain its other end for programs in Go.
//
// # URIs
//
//	plugin://NAME/path?options          a signer, or a secret source
//	plugin://NAME/path?options#field    a member of the JSON object that the source keeps
//
// NAME is a key of [secretsource.OpenOptions].Plugins: letters, digits, hyphens,
// underscores and dots. Path and options are the program's own; no option may be
// given twice. They reach the program on its standard input, never in its
// arguments.
//
// # What is executed
//
// Nothing that was not allowed by name. The path is absolute. The file and every
// folder above it, those that symbolic links lead through included, are writable
// by root and this user only (of the modes: access control lists are not read);
// a folder such as /tmp will do above one of the user's own. Opening copies the
// file, into sealed memory on Linux and into a private folder elsewhere; the
// SHA-256 is the copy's, and the copy is what every start executes. A program
// that is replaced is used by what is opened afterwards. So the program is one
// file: a script finds no others next to it. On Windows programs are refused.
//
// The environment is empty but for the variables that are named, as they are
// when the URI is opened, and the working
// directory is the root. A script with #!/usr/bin/env needs PATH among them.
//
// # How it runs
//
// The program starts at the first use and is asked what it is, within 15 seconds.
// A long-lived one answers all requests, concurrently if it likes; a one-shot one
// is started for each, at most 8 at a time. A request lasts 30 seconds at most,
// or until the caller's context ends. Whatever breaks the protocol (garbage, a
// line of more than 1 MiB, an answer that nobody asked for), ends by itself, or
// lets a deadline pass by a second without a word is killed with its process group,
// and started again by the next call: at once the first time, then after 1 second,
// doubling to 60, until it answers again. Close ends its input, and kills it after
// a second. Standard error becomes [smartcred.EventPluginMessage] events: 512
// bytes of a line, 50 lines in a row and then one a second, without those values of
// its environment that may be secrets: not short ones, paths, and addresses of
// servers.
//
// # Trust
//
// Every signature is verified under the listed public half before it is used. A
// program is believed in what it says of secrets, of its list of keys and of
// their custody. It runs as this user: allow none that may not do what this user
// may.
//
// # Errors
//
// The program's codes become [smartcred.ErrNotFound], [smartcred.ErrDenied],
// [smartcred.ErrUnavailable], [smartcred.ErrInvalidConfig] and
// [smartcred.ErrUnsupportedAlgorithm]. One that crashes, hangs or breaks the
// protocol is ErrUnavailable; one that may not or can't be run, and one of another
// protocol version, ErrInvalidConfig; a wrong signature [signer.ErrBadSignature].
// No error holds a byte that the program wrote.
package program
