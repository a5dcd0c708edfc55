package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
)

const revokeName = "revoke"

func (a *app) revoke() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   revokeName + " VERSION|KID|next|previous|current",
		Short: "Take a key or secret out of use at once",
		Long: `Revoke takes a key or secret out of use by removing its file: PATH.next or
PATH.previous. No copy is kept. Running processes stop using it within a minute,
take its key out of their JWK Set and drop the tokens they got with it.

The current one is removed with --force only: nothing would be sent until another
is there. Where another backend keeps it, revoke says what to run there.`,
		Example: `  smartcred rotation revoke previous --config smartcred.yaml`,
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove the current one too")
	a.withConfiguration(cmd, needRevoke, func(ctx context.Context, o *session) error {
		name := cmd.Flags().Arg(0)
		revoke := o.revokeSecret
		if o.method() == provider.MethodPrivateKeyJWT {
			revoke = o.revokeKey
		}
		done, err := revoke(ctx, name, force)
		if err != nil {
			return err
		}
		a.messages.line("%s", done)
		return nil
	})
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return &smartcred.ConfigError{Problem: "which one? Name a version, a kid, next, previous or current; smartcred rotation status lists them"}
		}
		return nil
	}
	return cmd
}

// unknownName is the error for a version or kid that is not among what there is.
func unknownName(what string, unreadable error) error {
	return errors.Join(&smartcred.ConfigError{Problem: what + "; smartcred rotation status lists what there is, and revoked in the configuration takes any"}, unreadable)
}

// nothingThere is what revoke says where its work is done.
func nothingThere(path string) string { return "nothing to do: there is no " + path }

// revokeKey removes the file of a key, and says what was done.
func (o *session) revokeKey(ctx context.Context, name string, force bool) (string, error) {
	path, err := o.keyPath()
	if err != nil {
		return "", err
	}
	unlock, err := lockFolder(ctx, filepath.Dir(path))
	if err != nil {
		return "", activateError(path, "the folder can't be locked", err)
	}
	defer unlock()
	// By kid or version first: a key may be called next.
	var unreadable error
	byStage, nothing := "", ""
	for _, suffix := range []string{suffixNext, "", suffixPrevious} {
		f, err := o.keyFile(ctx, suffix)
		unreadable = errors.Join(unreadable, err)
		if f.has(name) || suffix == "" && name != "" && name == o.keyID {
			return o.removeKey(f, suffix, force)
		}
		switch {
		case name != stageOf(suffix):
		case f.info != nil:
			byStage = suffix
		case err == nil && suffix != "":
			nothing = nothingThere(f.path)
		}
	}
	if byStage != "" || name == "current" {
		f, err := o.keyFile(ctx, byStage)
		if err != nil && f.info == nil { // one that can't be read can be removed
			return "", err
		}
		return o.removeKey(f, byStage, force)
	}
	if nothing != "" {
		return nothing, nil
	}
	return "", unknownName("no key in the files has that kid or version", unreadable)
}

func stageOf(suffix string) string {
	if suffix == "" {
		return "current"
	}
	return strings.TrimPrefix(suffix, ".")
}

func (o *session) removeKey(f keyFile, suffix string, force bool) (string, error) {
	named := "the key"
	line := ""
	if len(f.keys) > 0 {
		named += " with kid " + f.keys[0].ID
		line = fmt.Sprintf(", or add it to the configuration: revoked: [%s]", f.keys[0].ID)
	}
	switch {
	case f.info == nil:
		return "", &smartcred.ConfigError{Problem: f.path + " is not there"}
	case len(f.keys) > 1:
		return "", &smartcred.ConfigError{Problem: fmt.Sprintf("%s holds %d keys: take this one out of it, or add it to the configuration: revoked: [KID]", f.path, len(f.keys))}
	case suffix == "" && !force:
		return "", &smartcred.ConfigError{Problem: fmt.Sprintf(
			"%s is the current one: without it nothing signs until another is there. Rather: smartcred rotation new-key, register the set, smartcred rotation activate --force, smartcred rotation revoke previous. Or say --force%s", named, line)}
	}
	return remove(f.path, named)
}

// remove takes a file away for good: what may have leaked is kept nowhere.
func remove(path, named string) (string, error) {
	if err := os.Remove(path); err != nil {
		return "", &smartcred.ConfigError{Problem: path + " can't be removed", Err: err}
	}
	if err := syncPath(filepath.Dir(path)); err != nil {
		return "", &smartcred.ConfigError{Problem: path + " is removed, and the folder can't be read", Err: err}
	}
	return fmt.Sprintf("removed %s: %s is out of use; running processes follow within a minute. If it leaked, take it out at the server too", path, named), nil
}

// revokeSecret removes the file of a secret, and says what was done.
func (o *session) revokeSecret(ctx context.Context, name string, force bool) (string, error) {
	path, ok := o.filePath("secret", o.secret[0])
	if !ok {
		return "", &smartcred.ConfigError{Option: "secret", Problem: "is kept elsewhere: destroy the version there, or add it to revoked"}
	}
	var unreadable error
	for _, stage := range []secretsource.Stage{secretsource.Previous, secretsource.Current} {
		suffix := map[secretsource.Stage]string{secretsource.Previous: suffixPrevious}[stage]
		secret, err := o.secrets.Lookup(ctx, stage)
		if err != nil && !errors.Is(err, smartcred.ErrNotFound) {
			unreadable = errors.Join(unreadable, err)
		}
		if name != stage.String() && (name != secret.Version || name == "") {
			continue
		}
		switch _, err := os.Lstat(path + suffix); {
		case errors.Is(err, fs.ErrNotExist) && stage == secretsource.Previous:
			return nothingThere(path + suffix), nil
		case err != nil:
			return "", &smartcred.ConfigError{Problem: path + suffix + " can't be looked at", Err: err}
		}
		return o.removeSecret(path+suffix, stage, secret, force)
	}
	if o.stateFile == "" && strings.HasPrefix(name, "fp-") {
		return "", &smartcred.ConfigError{Problem: "without state_file versions of secrets in files are different in every run: name it current or previous"}
	}
	if name == stageOf(suffixNext) {
		return "nothing to do: secrets have no next one", nil
	}
	return "", unknownName("neither the current nor the previous secret has that version", unreadable)
}

func (o *session) removeSecret(path string, stage secretsource.Stage, secret secretsource.Secret, force bool) (string, error) {
	line := ""
	if o.stateFile != "" && !secret.IsZero() {
		line = fmt.Sprintf(", or add its version to the configuration: revoked: [%s]", secret.Version)
	}
	if u, err := url.Parse(o.secret[0]); err == nil && u.Fragment != "" {
		return "", &smartcred.ConfigError{Problem: path + " holds more than this secret: take the member out of it" + line}
	}
	if stage == secretsource.Current && !force {
		return "", &smartcred.ConfigError{Problem: "it is the current secret: without it nothing is sent until another is there. Rather write the new one to " + path + " and leave no " + suffixPrevious + " file. Or say --force" + line}
	}
	return remove(path, fmt.Sprintf("the %s secret, version %s,", stage, secret.Version))
}
