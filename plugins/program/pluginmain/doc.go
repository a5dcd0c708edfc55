// Package pluginmain is the other end of package program: it makes a plugin
// program of a [signer.Signer], a [secretsource.Source] or both.
//
//	func main() {
//		pluginmain.Main(pluginmain.Plugin{
//			Source: func(ctx context.Context, uri *url.URL, opts *secretsource.OpenOptions) (secretsource.Source, error) {
//				return openVault(uri.Path)
//			},
//		})
//	}
//
// The functions are the same Openers that [signer.Register] and
// [secretsource.Register] take, so one backend can be linked in or run as a
// program. uri is the plugin's own: plugin:///path?options, without a host,
// because the program's name is its user's choice. Of the options there are
// Algorithm and PublishFor; events go to slog's default logger, which writes to
// standard error, as everything that is written there reaches the user's log.
//
// [Main] keeps standard output for the protocol: os.Stdout is standard error
// afterwards. Requests run concurrently, each with the deadline that it came with.
// When its input ends the program closes what it opened and ends.
//
// Errors are told by their kind only: [smartcred.ErrNotFound],
// [smartcred.ErrDenied], [smartcred.ErrInvalidConfig],
// [smartcred.ErrUnsupportedAlgorithm], and [smartcred.ErrUnavailable] for all
// others. Their text goes to standard error; like all errors of backends it must
// hold no secret.
package pluginmain
