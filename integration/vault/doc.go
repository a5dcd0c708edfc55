// Package vault holds the tests of plugins/vaulttransit and plugins/vaultkv
// against a real Vault, see package vaulttest.
package vault
