//go:build unix

package securefile

import (
	"errors"
	"syscall"
)

// openFlags keep an open of a FIFO or device from waiting, and the descriptor
// out of programs started meanwhile.
const openFlags = syscall.O_NONBLOCK | syscall.O_CLOEXEC

// isNotFound: a parent of the path is a file.
func isNotFound(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

// isHopeless reports causes that asking again does not change: a socket or a
// device without driver, a loop of links, a path that no file can have.
func isHopeless(err error) bool {
	for _, errno := range []syscall.Errno{syscall.ENXIO, syscall.ENODEV, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
