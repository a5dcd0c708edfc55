// Package vaultkv looks client secrets up in HashiCorp Vault's KV secrets engine.
//
//	client, err := api.NewClient(nil) // your own, with your own login
//	...
//	src, err := vaultkv.New(client, "smart", "client_secret", nil)
//	...
//	basic, err := provider.NewClientSecretBasic(src, nil)
//
// With the package imported, [secretsource.Open] and the command line take
//
//	vault-kv://MOUNT/PATH?OPTIONS#FIELD
//
// where the field is required: a KV secret has several. One newline at the end of
// its value does not belong to the secret. The options are those of
// package vaulttransit, but version, and
//
//	mount    where path divides; without it Vault is asked, or with kv the first part is the mount
//	kv       1 or 2, the engine's version; without it Vault is asked, once
//
// # Versions
//
// In KV version 2 every write makes a version, also of other fields: a version
// counts as another secret only where the field differs. The previous secret is
// the newest earlier version that is neither deleted nor destroyed and whose field
// differs, at most 5 back. [secretsource.Secret].Created is when the field got
// this value, as far as those versions tell; Expires is when Vault will delete
// the version (delete_version_after). A current version that is deleted or
// destroyed is [smartcred.ErrNotFound]: that is how a secret is revoked, and
// nothing is sent in its place.
//
// KV version 1 keeps no earlier values: a second URI in the list of secrets names
// the previous one.
//
// Logging in, sharing and errors are as in package vaulttransit. The policy needs
// read on MOUNT/data/PATH (version 2) or MOUNT/PATH (version 1).
package vaultkv
