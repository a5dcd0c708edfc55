package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

func (a *app) activate() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "activate",
		Short: "Make the next key the one that signs",
		Long: `Activate moves the keys of a signer that is a file: PATH becomes PATH.previous,
and PATH.next becomes PATH. PATH is never missing, whenever the machine stops; run
it again and it completes. Running processes follow within a minute.

It refuses while PATH.next is younger than publish_for: servers may still have a
JWK Set without it. With --force it does not wait: where a server lacks the new key
the previous one is tried, for as long as it is there.`,
		Example: `  smartcred rotation activate --config smartcred.yaml`,
	}
	cmd.Flags().BoolVar(&force, "force", false, "do not wait until the key has been published for publish_for")
	a.withConfiguration(cmd, needActivate, func(ctx context.Context, o *session) error {
		path, err := o.keyPath()
		if err != nil {
			return err
		}
		unlock, err := lockFolder(ctx, filepath.Dir(path))
		if err != nil {
			return activateError(path, "the folder can't be locked", err)
		}
		defer unlock()
		key, err := o.activatable(ctx, path, force)
		if err != nil {
			return err
		}
		if key == nil {
			a.messages.line("nothing to do: there is no %s%s", path, suffixNext)
			return nil
		}
		gone, err := o.keyFile(ctx, suffixPrevious)
		if err != nil {
			a.messages.line("%s%s can't be read, and is replaced", path, suffixPrevious)
		}
		for _, step := range activation(path) {
			if err := step.do(); err != nil {
				return activateError(path, step.fails, err)
			}
		}
		a.activated(path, *key, gone.keys)
		return nil
	})
	return cmd
}

func activateError(path, problem string, err error) error {
	return &smartcred.ConfigError{Problem: path + ": " + problem, Err: err}
}

// activatable returns the key of path.next if it may take over now; nil if there
// is no such file.
func (o *session) activatable(ctx context.Context, path string, force bool) (*signer.Key, error) {
	refuse := func(format string, args ...any) (*signer.Key, error) {
		return nil, &smartcred.ConfigError{Problem: fmt.Sprintf(format, args...)}
	}
	next, err := os.Lstat(path + suffixNext)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, activateError(path, "the next key can't be looked at", err)
	}
	now, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, activateError(path, "can't be looked at", err)
	case !now.Mode().IsRegular() || !next.Mode().IsRegular():
		return refuse("%s or %s%s is a link: whoever keeps it there, Kubernetes perhaps, has to change it", path, path, suffixNext)
	}
	_, key, err := o.theCurrent(ctx)
	switch {
	case err != nil:
		return nil, err
	case key.Public == nil:
		return refuse("%s%s holds no key that could take over: it can't be used, is in use already, or is left out by allowed_kids, revoked or require_non_exportable", path, suffixNext)
	}
	if err := o.signOnTrial(ctx, key); err != nil {
		return nil, err
	}
	if wait := time.Until(next.ModTime().Add(o.publishFor)); wait > 0 && !force {
		return refuse("%s%s is published for %s only, and publish_for is %s: wait until %s, or say --force",
			path, suffixNext, plainDuration(time.Since(next.ModTime())), plainDuration(o.publishFor), when(next.ModTime().Add(o.publishFor)))
	}
	if !sameReaders(now, next) && !force {
		return refuse("%s%s has another owner or mode than %s, so a service may not be able to read it: run chown --reference=%[3]s %[1]s%[2]s; chmod --reference=%[3]s %[1]s%[2]s, or say --force",
			path, suffixNext, path)
	}
	return &key, nil
}

// A step is one change to the files. After each of them, and after a part of
// them, path holds the old key or the new one, and all can be run again.
type step struct {
	fails string
	do    func() error
}

func activation(path string) []step {
	name := filepath.Base(path)
	temp := filepath.Join(filepath.Dir(path), ".smartcred-"+name+suffixPrevious)
	clear := func() error {
		if err := os.Remove(temp); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return []step{
		{"what a former run left can't be removed", clear},
		{"the current key can't be kept as previous", func() error { return os.Link(path, temp) }},
		// A rename between two names of one file does nothing, and leaves both.
		{"the current key can't be kept as previous", func() error { return os.Rename(temp, path+suffixPrevious) }},
		{"the link of a former run can't be removed", clear},
		// What is previous must be on the disk before its other name goes.
		{"the folder can't be written", func() error { return syncPath(filepath.Dir(path)) }},
		{"the next key can't be made the current one", func() error { return os.Rename(path+suffixNext, path) }},
		{"the folder can't be written", func() error { return syncPath(filepath.Dir(path)) }},
	}
}

// syncPath makes names in a folder last through a power failure.
func syncPath(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	syncFolder(root)
	return nil
}

func (a *app) activated(path string, key signer.Key, gone []signer.Key) {
	a.messages.line("%s is now the key with kid %s; the one before it is %s%s", path, key.ID, path, suffixPrevious)
	for _, k := range gone {
		if k.ID != key.ID {
			a.messages.line("the key that was previous until now, kid %s, is gone", k.ID)
		}
	}
	a.messages.line("next: smartcred rotation status --probe asks the server whether it takes the key")
	a.messages.line("then, once every process signs with it and no server refuses it: smartcred rotation revoke previous")
}
