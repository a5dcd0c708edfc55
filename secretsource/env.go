package secretsource

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/smartcred/smartcred"
)

const envPrevious = "_PREVIOUS"

// Env returns a Source that reads the environment variable name, and
// name_PREVIOUS for the previous secret, at every look-up. A variable that is
// unset or empty is [smartcred.ErrNotFound]. Values are taken as they are.
//
// An environment is the weakest place for a secret: child processes inherit it,
// crash reports and container inspections show it, and it does not change while
// the process runs.
func Env(name string, opts *OpenOptions) Source {
	return env{name: name, newSecret: opts.maker()}
}

type env struct {
	name      string
	newSecret func([]byte) Secret
}

func (s env) Lookup(ctx context.Context, stage Stage) (Secret, error) {
	if err := ended(ctx, stage); err != nil {
		return Secret{}, err
	}
	name := s.name
	switch stage {
	case Current:
	case Previous:
		name += envPrevious
	default:
		return Secret{}, noStage("environment", stage)
	}
	value := os.Getenv(name)
	if value == "" {
		return Secret{}, fmt.Errorf("secretsource: environment variable %s: %w (unset or empty)", name, smartcred.ErrNotFound)
	}
	return s.newSecret([]byte(value)), nil
}

func openEnv(_ context.Context, uri *url.URL, opts *OpenOptions) (Source, error) {
	if _, err := CheckQuery(uri); err != nil {
		return nil, err
	}
	name, err := url.PathUnescape(uri.Opaque)
	if err != nil || !isVariableName(name) {
		return nil, &smartcred.ConfigError{Problem: "not of the form env:NAME, with a variable's name of letters, digits and _ . -"}
	}
	return withField(Env(name, opts), uri), nil
}

func isVariableName(name string) bool {
	if name == "" || '0' <= name[0] && name[0] <= '9' {
		return false
	}
	return strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == ""
}
