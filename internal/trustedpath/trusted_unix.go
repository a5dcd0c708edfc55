//go:build unix

package trustedpath

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/smartcred/smartcred"
)

// Checked says that owners and modes are looked at.
const Checked = true

// maxLinks is how many symbolic links a path may lead over, as in Linux.
const maxLinks = 40

// Resolve returns an absolute path without symbolic links. It is an error if anybody
// but root and this user could put another file there: every folder on the way,
// those that links lead through included, must be writable by these two only. A
// folder that all can write and in which only owners can rename (sticky, as /tmp)
// will do for what lies in a folder of its own below it. The file itself is
// [CheckFile]'s.
func Resolve(option, path string) (string, error) {
	at, rest := "/", components(path)
	links := 0
	wide, err := checkFolder(option, at)
	if err != nil {
		return "", err
	}
	for len(rest) > 0 {
		next := filepath.Join(at, rest[0]) // at has no links, so .. is what it says
		rest = rest[1:]
		info, err := os.Lstat(next)
		if err != nil {
			return "", problem(option, next+" can't be looked at", err)
		}
		if wide && !info.IsDir() { // a file, or a link: others may have linked one of root's there under this name
			return "", &smartcred.ConfigError{Option: option, Problem: "others can write the folder " + at + ": put it into one of its own"}
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			if links++; links > maxLinks {
				return "", &smartcred.ConfigError{Option: option, Problem: "leads over too many symbolic links"}
			}
			if err := ownedByUs(option, next, info); err != nil {
				return "", err
			}
			target, err := os.Readlink(next)
			if err != nil {
				return "", problem(option, next+" can't be read", err)
			}
			if filepath.IsAbs(target) {
				at, wide = "/", false
			}
			rest = append(components(target), rest...)
			continue
		}
		at = next
		if info.IsDir() {
			if wide, err = checkFolder(option, at); err != nil {
				return "", err
			}
		}
	}
	return at, nil
}

func components(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == filepath.Separator })
}

// checkFolder reports whether others can add files to a folder that is safe
// otherwise.
func checkFolder(option, path string) (wide bool, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return false, problem(option, path+" can't be looked at", err)
	}
	if err := ownedByUs(option, path, info); err != nil {
		return false, err
	}
	if info.Mode().Perm()&0o022 == 0 {
		return false, nil
	}
	if info.Mode()&fs.ModeSticky == 0 {
		return false, &smartcred.ConfigError{Option: option, Problem: fmt.Sprintf(
			"%s has mode %04o: group or others can write it: run chmod go-w %s, or put it elsewhere", path, info.Mode().Perm(), path)}
	}
	return true, nil
}

// CheckFile checks the file at path, whose info is that of the open file where it
// may change.
func CheckFile(option, path string, info fs.FileInfo) error {
	if err := ownedByUs(option, path, info); err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return &smartcred.ConfigError{Option: option, Problem: fmt.Sprintf(
			"%s has mode %04o: group or others can write it: run chmod go-w %s", path, info.Mode().Perm(), path)}
	}
	return nil
}

func ownedByUs(option, path string, info fs.FileInfo) error {
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner == 0 || int64(owner) == int64(os.Geteuid()) {
		return nil
	}
	return &smartcred.ConfigError{Option: option, Problem: fmt.Sprintf(
		"%s belongs to user %d: it must be root's or this user's (%d)", path, owner, os.Geteuid())}
}
