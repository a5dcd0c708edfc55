package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// copyOf copies f into memory that nobody can write any more, and that is there
// where temporary folders are mounted noexec or read-only. A script's interpreter
// opens the same descriptor, which therefore stays open in the child.
func copyOf(f *os.File, name, hash string) (*pinned, error) {
	memory, err := sealed(f, name, hash)
	if !errors.Is(err, errNoMemory) {
		return &pinned{path: "/proc/self/fd/3", file: memory}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("copy the program: %w", cause(err))
	}
	return privateCopy(f, name, hash)
}

// errNoMemory: an old kernel, one that forbids executable memory files
// (vm.memfd_noexec), or no /proc.
var errNoMemory = errors.New("no executable memory file here")

func sealed(f *os.File, name, hash string) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, errNoMemory
	}
	writable := os.NewFile(uintptr(fd), name)
	defer writable.Close()
	// Nothing can be executed that is open for writing.
	readable, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, errNoMemory
	}
	err = hashed(writable, f, hash)
	if err == nil {
		err = seal(fd)
	}
	if err != nil {
		_ = readable.Close()
		return nil, err
	}
	return readable, nil
}

// sealTries is how often a file is sealed that the kernel is still busy with:
// pages just written may be in its hands for a moment.
const sealTries = 20

func seal(fd int) error {
	for range sealTries {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(busyWait)
	}
	return errNoMemory
}
