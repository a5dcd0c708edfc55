//go:build unix

package pkcs11

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/smartcred/smartcred"
)

func checkOwner(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return &smartcred.ConfigError{Option: moduleOption, Problem: fmt.Sprintf(
			"%s belongs to user %d, who so chooses what this process runs: it must belong to root or to the process's own user", path, stat.Uid)}
	}
	return checkMode(path, info.Mode())
}
