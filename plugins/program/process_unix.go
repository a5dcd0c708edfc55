//go:build unix

package program

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// openFlags keep an open of a FIFO or device from waiting.
const openFlags = syscall.O_NONBLOCK | syscall.O_CLOEXEC

// ownGroup makes the program the leader of a process group, so that what it
// started ends with it.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup ends the program, which may have left its group, and what it started.
func killGroup(p *os.Process) {
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	_ = p.Kill()
}

// isHopeless reports reasons for a program not to start that starting it again
// does not change: no interpreter, not executable here.
func isHopeless(err error) bool {
	for _, errno := range []syscall.Errno{syscall.ENOENT, syscall.EACCES, syscall.EPERM, syscall.ENOEXEC, syscall.ENOTDIR, syscall.ELOOP} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// isBusy: a process forked at the same moment by another goroutine still has the
// copy open for writing, until it executes something itself.
func isBusy(err error) bool { return errors.Is(err, syscall.ETXTBSY) }
