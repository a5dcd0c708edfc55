//go:build !unix || solaris || aix

package main

import (
	"context"
	"io/fs"
)

// lockFolder does nothing: this system has no lock that goes with the process.
func lockFolder(context.Context, string) (unlock func(), err error) { return func() {}, nil }

// sameReaders takes modes for equal, which say nothing of readers here.
func sameReaders(_, _ fs.FileInfo) bool { return true }
