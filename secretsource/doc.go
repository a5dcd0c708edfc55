// Package secretsource looks client secrets up where the security team keeps
// them. A [Source] is a place, opened by its URI; a [Secret] is what it answers
// with, and prints as [redacted] wherever it goes; a [Cache] keeps it for a
// minute and carries programs over the source's outages.
//
//	src, err := secretsource.Open(ctx, "file:///run/secrets/smart", nil)
//	if err != nil {
//		return err
//	}
//	cache := secretsource.NewCache(src, nil)
//	defer cache.Close()
//	secret, err := cache.Lookup(ctx, secretsource.Current)
//
// # URIs
//
//	env:NAME                the variable NAME; previous: NAME_PREVIOUS
//	file:///path            the file /path; previous: /path.previous
//	file:relative/path      counted from OpenOptions.Dir
//	file:///path#field      a string member of the JSON object in the file
//
// Paths and names are percent-encoded. Other schemes come with the packages that
// [Register] them: import github.com/smartcred/smartcred/plugins/vaultkv for
// vault-kv, for example. [Static], [List] and [Field] make sources without a URI.
//
// # Stages and versions
//
// A source has a [Current] secret and may have a [Previous] one, which servers
// that have not switched yet still take. A Version is the backend's own handle,
// for logs. Where the backend has none it is a keyed fingerprint of the value,
// see [OpenOptions.NewSecret]; it is never a plain hash, which would let
// anybody who reads a log try guesses.
//
// # Errors
//
// [smartcred.ErrNotFound] and [smartcred.ErrDenied] are answers: what was there
// before is not used any more. Only [smartcred.ErrUnavailable] means that there
// was no answer and that asking again may help. [smartcred.ErrInvalidConfig]
// says what to repair. No error holds a secret, nor a URI that could be one.
//
// # Backends of your own
//
// Implement [Source], make Secrets with [New] (or [OpenOptions.NewSecret], where
// there are no versions), and [Register] an [Opener] if configurations are to
// name it. Leave caching, retries and the sharing of look-ups to Cache.
package secretsource
