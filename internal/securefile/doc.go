// Package securefile reads the files that hold secrets, keys and configuration,
// and refuses those that somebody else could have written or can read.
//
//	data, err := securefile.Read(ctx, path, securefile.Options{Private: true})
//
// A file is opened once and judged by its open descriptor, so that what was
// judged is what is read. Symbolic links are followed. Only regular files of at
// most [MaxSize] bytes are read; a FIFO or a device is refused without waiting
// on it. Permissions are judged on Unix only.
//
// Errors carry no package prefix: the caller's goes in front. They name the
// path, never a byte of the file, and match one of [smartcred.ErrNotFound],
// [smartcred.ErrDenied], [smartcred.ErrInvalidConfig], [smartcred.ErrUnavailable]
// or the context's own error.
package securefile
