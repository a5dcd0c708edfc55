// Package wire is the plugin protocol's lines, for both of its ends: requests and
// answers as docs/plugin-protocol.md has them, each a JSON object on one line.
package wire
