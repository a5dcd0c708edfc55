// Package plugins holds plugin programs in other languages than Go, and their
// tests: smartcred-plugin-credentials in shell, a one-shot secret source, and
// smartcred-plugin-openssl in Python, a long-lived signer and secret source. A
// plugin in Go is in examples/custombackend/plugin.
package plugins
