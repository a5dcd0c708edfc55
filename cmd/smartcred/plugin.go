package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/program"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/secretsource/secretsourcetest"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/signer/signertest"
)

func (a *app) plugin() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Look at plugin programs",
		Args:  unknownCommand,
		RunE:  whichCommand,
	}
	cmd.AddCommand(a.pluginCheck())
	return cmd
}

func (a *app) pluginCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check NAME[/PATH?OPTIONS]",
		Short: "Check that a plugin program keeps its promises",
		Long: `Plugin check runs a program that plugins allows, or, with --allow-path-plugins,
smartcred-plugin-NAME on PATH, and looks whether it keeps the plugin protocol and,
as signer and as secret source, the promises that smartcred relies on: it lists
keys, signs with them and looks secrets up, and prints none of them. Without a PATH
it looks at what signer and secret name of that program, if they do. What the
program writes to its standard error is shown.

It prints a line for each, ok or fail, and ends with status 1 if a promise is broken.`,
		Example: `  smartcred plugin check keyhouse/smart/key --config smartcred.yaml`,
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	a.withObservedConfiguration(cmd, 0, &overheard{messages: a.messages}, func(ctx context.Context, o *session) error {
		h := &health{Checks: []finding{}}
		if err := h.checkPlugin(ctx, o, cmd.Flags().Arg(0)); err != nil {
			return err
		}
		h.Status = h.worst()
		report := h.text()
		if asJSON {
			var err error
			if report, err = indented(h); err != nil {
				return err
			}
		}
		if err := a.print(report); err != nil {
			return err
		}
		return h.failure()
	})
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return &smartcred.ConfigError{Problem: "name one plugin: smartcred plugin check NAME"}
		}
		return nil
	}
	return cmd
}

// maxOverheard is how many lines of a program are shown.
const maxOverheard = 50

// overheard shows what a program writes to its standard error.
type overheard struct {
	*messages
	lines atomic.Int64
}

// Observe implements [smartcred.Observer].
func (o *overheard) Observe(ctx context.Context, e smartcred.Event) {
	if e.Kind != smartcred.EventPluginMessage {
		o.messages.Observe(ctx, e)
		return
	}
	switch n := o.lines.Add(1); {
	case n <= maxOverheard:
		o.line("plugin: %s", e.Detail)
	case n == maxOverheard+1:
		o.line("plugin: … and more")
	}
}

// checkPlugin looks at a program. The error is that it may not be run.
func (h *health) checkPlugin(ctx context.Context, o *session, arg string) error {
	opts := o.openOptions("plugins")
	uri := "plugin://" + strings.TrimPrefix(arg, "plugin://")
	found, err := program.Inspect(ctx, uri, &opts)
	if err != nil {
		return err
	}
	for _, f := range found.Findings {
		if f.Err != nil {
			h.add("protocol", verdictFail, "it %s: no: %s", f.Promise, plainText(f.Err))
		} else {
			h.add("protocol", verdictOK, "it %s", f.Promise)
		}
	}
	if !found.Signer && !found.Source {
		return nil // what keeps it from saying so is said
	}
	var absent []string
	looks := 0
	if found.Signer {
		looks++
		err := h.checkPluginSigner(ctx, o, named(uri, o.settings.signer))
		if errors.Is(err, smartcred.ErrNotFound) {
			absent = append(absent, "key")
		} else if err != nil {
			return err
		}
	}
	if found.Source {
		looks++
		err := h.checkPluginSource(ctx, &opts, named(uri, o.secret...))
		if errors.Is(err, smartcred.ErrNotFound) {
			absent = append(absent, "secret")
		} else if err != nil {
			return err
		}
	}
	for _, what := range absent {
		// A program that is both has seldom both under one path.
		status, next := verdictOK, "not looked at"
		if len(absent) == looks {
			status, next = verdictFail, "name one: smartcred plugin check NAME/PATH"
		}
		h.add(what, status, "there is no %s under that path: %s", what, next)
	}
	return nil
}

// named returns the configuration's own URI of a program where the command line
// names no more than the program.
func named(uri string, configured ...string) string {
	for _, c := range configured {
		if rest, ok := strings.CutPrefix(c, uri); ok && (rest == "" || strings.ContainsRune("/?#", rune(rest[0]))) {
			return c
		}
	}
	return uri
}

// checkPluginSigner runs the kit's look; [smartcred.ErrNotFound] says that there is no key.
func (h *health) checkPluginSigner(ctx context.Context, o *session, uri string) error {
	s, err := signer.Open(ctx, uri, &signer.OpenOptions{
		OpenOptions: o.openOptions("plugins"), Algorithm: o.algorithm, PublishFor: o.publication(),
	})
	if err != nil {
		return err
	}
	defer closing(s)
	keys, err := s.Keys(ctx)
	switch {
	case errors.Is(err, smartcred.ErrNotFound):
		return err
	case err != nil:
		h.add("signer", verdictFail, "it lists no keys, so nothing of a signer can be looked at: %s", plainText(err))
		return nil
	}
	h.kit("signer", fmt.Sprintf("it keeps every promise of a signer, with %d keys", len(keys)), signertest.Check(ctx, s))
	return nil
}

// checkPluginSource runs the kit's look; [smartcred.ErrNotFound] says that there is no secret.
func (h *health) checkPluginSource(ctx context.Context, opts *secretsource.OpenOptions, uri string) error {
	src, err := secretsource.Open(ctx, uri, opts)
	if err != nil {
		return err
	}
	defer closing(src)
	switch _, err := src.Lookup(ctx, secretsource.Current); {
	case errors.Is(err, smartcred.ErrNotFound):
		return err
	case err != nil:
		h.add("secret", verdictFail, "it gives no secret, so nothing of a secret source can be looked at: %s", plainText(err))
		return nil
	}
	h.kit("secret", "it keeps every promise of a secret source", secretsourcetest.Check(ctx, src))
	return nil
}

// kit reports what a conformance kit found.
func (h *health) kit(check, kept string, err error) {
	switch broken := err.(type) {
	case nil:
		h.add(check, verdictOK, "%s", kept)
	case interface{ Unwrap() []error }:
		for _, b := range broken.Unwrap() {
			h.add(check, verdictFail, "%s", plainText(b))
		}
	default:
		h.add(check, verdictFail, "%s", plainText(err))
	}
}

// allowedPlugins are the programs as package program takes them.
func (s *settings) allowedPlugins() map[string]secretsource.Plugin {
	allowed := make(map[string]secretsource.Plugin, len(s.plugins))
	for name, p := range s.plugins {
		allowed[name] = secretsource.Plugin{Path: p.path, SHA256: p.sha256, Env: p.env}
	}
	return allowed
}
