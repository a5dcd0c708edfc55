//go:build !unix

package program

import (
	"io/fs"
	"os"
	"os/exec"

	"github.com/smartcred/smartcred"
)

const openFlags = 0

// trusted refuses: modes say nothing here about who may write a file.
func trusted(string) (string, error) {
	return "", &smartcred.ConfigError{Option: "plugin", Problem: "programs are run on Unix only: elsewhere it can't be told who could have changed them"}
}

func onlyOurs(string, fs.FileInfo) error { return nil }

func ownGroup(*exec.Cmd) {}

func killGroup(p *os.Process) { _ = p.Kill() }

func isHopeless(error) bool { return true }

func isBusy(error) bool { return false }
