package program

import (
	"context"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/redact"
	"github.com/smartcred/smartcred/plugins/program/internal/wire"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

const (
	scheme = "plugin"
	// onPath begins the names of programs that are looked for on PATH.
	onPath  = "smartcred-plugin-"
	maxName = 64
)

func init() {
	signer.Register(scheme, openSigner)
	secretsource.Register(scheme, openSource)
}

func openSigner(_ context.Context, u *url.URL, opts *signer.OpenOptions) (signer.Signer, error) {
	if u.Fragment != "" {
		return nil, &smartcred.ConfigError{Problem: "a signer's URI has no fields: # belongs to secrets' URIs, and in a path it is written %23"}
	}
	r, err := newRunner(u, &opts.OpenOptions, func(t *wire.Target) {
		t.ConfiguredAlgorithm = string(opts.Algorithm)
		t.PublishSeconds = int64(opts.PublishFor / time.Second)
	})
	if err != nil {
		return nil, err
	}
	return &programSigner{runner: r, algorithm: opts.Algorithm}, nil
}

func openSource(_ context.Context, u *url.URL, opts *secretsource.OpenOptions) (secretsource.Source, error) {
	r, err := newRunner(u, opts, nil)
	if err != nil {
		return nil, err
	}
	// Of the options only what makes versions: a source prints no more than it needs.
	src := &programSource{runner: r, newSecret: (&secretsource.OpenOptions{FingerprintKey: opts.FingerprintKey}).NewSecret}
	if u.Fragment != "" {
		return secretsource.Field(src, u.Fragment), nil
	}
	return src, nil
}

// newRunner makes a runner of the program that u names. It starts nothing yet.
// complete, which may be nil, adds to its target.
func newRunner(u *url.URL, opts *secretsource.OpenOptions, complete func(*wire.Target)) (*runner, error) {
	name, target, err := parse(u)
	if err != nil {
		return nil, err
	}
	if complete != nil {
		complete(&target)
	}
	p, err := allowed(name, opts)
	if err != nil {
		return nil, err
	}
	env, secrets, err := environment(p.Env)
	if err != nil {
		return nil, err
	}
	backend, redactor := backendOf(name, target), redact.New(secrets...)
	pinned, err := pin(p.Path, p.SHA256)
	if err != nil {
		return nil, &smartcred.ConfigError{Option: "plugins." + name, Problem: "can't be run", Err: err}
	}
	return &runner{
		name: name, backend: backend, argv0: p.Path, pinned: pinned,
		target: func() wire.Target { return target }, env: func() []string { return env },
		redactor: redactor, unnamed: redact.New(long(secrets)...), observer: opts.Observer,
		log:          &logger{backend: backend, observer: opts.Observer, redactor: redactor},
		startTimeout: startTimeout, requestTimeout: requestTimeout,
		slots: make(chan struct{}, maxAtOnce), oneShots: make(chan struct{}, maxOneShots),
		processes: map[*process]bool{},
	}, nil
}

// backendOf names the target in events: options can be secret.
func backendOf(name string, target wire.Target) string {
	return (&url.URL{Scheme: scheme, Host: name, Path: "/" + target.Path}).String()
}

// parse reads plugin://NAME/path?options.
func parse(u *url.URL) (name string, target wire.Target, err error) {
	// The options are the program's to know; that none is given twice is ours.
	options, err := secretsource.CheckQuery(u, slices.Collect(maps.Keys(u.Query()))...)
	if err != nil {
		return "", target, err
	}
	if u.Opaque != "" || u.User != nil || !isName(u.Host) {
		return "", target, &smartcred.ConfigError{Problem: "not of the form plugin://NAME/path?options; NAME has letters, digits, hyphens, underscores and dots, at most 64, and begins with a letter, digit or underscore"}
	}
	target.Path = strings.TrimPrefix(u.Path, "/")
	for option := range options {
		if target.Options == nil {
			target.Options = map[string]string{}
		}
		target.Options[option] = options.Get(option)
	}
	return u.Host, target, nil
}

// isName reports whether a program may be called name, which becomes the end of a
// file's name.
func isName(name string) bool {
	return name != "" && len(name) <= maxName && name[0] != '-' && name[0] != '.' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// allowed returns the program that name stands for.
func allowed(name string, opts *secretsource.OpenOptions) (secretsource.Plugin, error) {
	if p, ok := opts.Plugins[name]; ok {
		if p.Path == "" {
			return p, &smartcred.ConfigError{Option: "plugins." + name, Problem: "has no path: name the program"}
		}
		return p, nil
	}
	problem := "is not allowed: list it in plugins, with its path and sha256"
	if !opts.PathPlugins {
		return secretsource.Plugin{}, &smartcred.ConfigError{Option: "plugins." + name, Problem: problem}
	}
	path, err := exec.LookPath(onPath + name)
	if err != nil || !filepath.IsAbs(path) {
		return secretsource.Plugin{}, &smartcred.ConfigError{
			Option: "plugins." + name, Problem: problem + ", or put " + onPath + name + " into a folder of PATH that is absolute"}
	}
	return secretsource.Plugin{Path: path}, nil
}

// harmless are variables whose values are no secrets, and would be found in
// innocent text.
var harmless = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "PWD"}

const (
	shortestSecret = 4  // bytes: a PIN; in all text there is a 1
	shortestToken  = 16 // bytes of what no name has by chance
)

// maySecret reports whether a variable may hold a secret: it is none if it is a
// path that is there, or says no more than where a server is.
func maySecret(name, value string) bool {
	if len(value) < shortestSecret || slices.Contains(harmless, name) || strings.HasPrefix(name, "LC_") {
		return false
	}
	if filepath.IsAbs(value) {
		_, err := os.Lstat(value)
		return err != nil
	}
	u, err := url.Parse(value)
	return err != nil || u.Host == "" || *u != url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.Repeat("/", min(len(u.Path), 1))}
}

func long(values [][]byte) [][]byte {
	return slices.DeleteFunc(slices.Clone(values), func(v []byte) bool { return len(v) < shortestToken })
}

// environment returns the program's environment, and the values in it that may
// be secrets.
func environment(names []string) (env []string, secrets [][]byte, err error) {
	env = []string{} // nil is this process' own
	for _, name := range names {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return nil, nil, &smartcred.ConfigError{Option: "env", Problem: "takes names of variables, without values"}
		}
		value, ok := os.LookupEnv(name)
		if !ok {
			continue
		}
		env = append(env, name+"="+value)
		if maySecret(name, value) {
			secrets = append(secrets, []byte(value))
		}
	}
	return env, secrets, nil
}
