package securefile

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/smartcred/smartcred"
)

const (
	othersWrite fs.FileMode = 0o022 // group or others
	othersRead  fs.FileMode = 0o004
)

// checkMode applies the permission rules to an open file's mode.
func checkMode(ctx context.Context, path string, mode fs.FileMode, o Options) error {
	if runtime.GOOS == "windows" {
		return nil // the mode there says nothing about who may read
	}
	repair := "chmod go-w " + path
	if o.Private {
		repair = "chmod g-w,o= " + path
	}
	if mode&othersWrite != 0 {
		return &smartcred.ConfigError{Problem: fmt.Sprintf(
			"%s has mode %04o: group or others can write it: run %s", path, mode, repair)}
	}
	if !o.Private || mode&othersRead == 0 {
		return nil
	}
	// The kubelet writes secret volumes 0644 unless told otherwise, inside a
	// container that usually has one user.
	if o.InsecurePermissions || inKubernetesVolume(path) {
		smartcred.Notify(ctx, o.Observer, smartcred.Event{
			Kind:    smartcred.EventInsecurePermissions,
			Backend: "file:" + path,
			Detail:  fmt.Sprintf("mode %04o: others can read it: run %s", mode, repair),
		})
		return nil
	}
	return &smartcred.ConfigError{Problem: fmt.Sprintf(
		"%s has mode %04o: others can read it: run %s, or set insecure_permissions", path, mode, repair)}
}

// inKubernetesVolume reports whether the file's folder is one the kubelet
// writes: it holds a link ..data, which is moved to swap all files at once.
func inKubernetesVolume(path string) bool {
	info, err := os.Lstat(filepath.Join(filepath.Dir(path), "..data"))
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// Once returns an Observer that passes the first
// [smartcred.EventInsecurePermissions] of each file on to o and drops the
// later ones, for who reads the same files again and again. Other events pass.
func Once(o smartcred.Observer) smartcred.Observer {
	var seen sync.Map
	return smartcred.ObserverFunc(func(ctx context.Context, e smartcred.Event) {
		if e.Kind == smartcred.EventInsecurePermissions {
			if _, again := seen.LoadOrStore(e.Backend, true); again {
				return
			}
		}
		smartcred.Notify(ctx, o, e)
	})
}
