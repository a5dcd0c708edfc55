//go:build unix && !solaris && !aix

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// lockFolder keeps other runs from moving files of the folder. The lock goes
// with the process, whatever ends it, and leaves no file behind.
func lockFolder(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			_ = f.Close()
			return nil, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		}
	}
}

// sameReaders reports whether who can read a can read b: same owner and group,
// and no bit less.
func sameReaders(a, b fs.FileInfo) bool {
	before, ok := a.Sys().(*syscall.Stat_t)
	after, too := b.Sys().(*syscall.Stat_t)
	return ok && too && before.Uid == after.Uid && a.Mode()&^b.Mode()&0o440 == 0 &&
		(a.Mode()&0o040 == 0 || before.Gid == after.Gid)
}
