package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/smartcred/smartcred"
)

// grace is how long after the time-out a command waits for what it started to
// end by itself: that error says who was slow.
const grace = 2 * time.Second

// An app is what all commands share.
type app struct {
	stdout   io.Writer
	messages *messages
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "smartcred",
		Short: "Tokens for SMART on FHIR servers, with credentials that stay where they are kept",
		Long: `Smartcred gets access tokens for SMART on FHIR servers. Client secrets are
looked up and JWTs are signed where they are kept: no flag and no key of the
configuration file ever holds a secret, only a reference to one.`,
		Example: `  smartcred keygen --alg ES384 --out key.pem > jwks.json
  smartcred token --base-url https://fhir.example.com/r4 --client-id my-app \
      --scopes 'system/*.rs' --signer file:key.pem`,
		Args:          unknownCommand,
		RunE:          whichCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(a.stdout)
	root.SetErr(a.messages)
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(usage)
	root.AddCommand(a.token(), a.assertion(), a.jwks(), a.keygen(), a.discover(), a.checkup(), a.rotation(), a.plugin(), a.version())
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		for _, shell := range cmd.Commands() {
			if cmd.Name() == "completion" {
				shell.Args = noArguments // cobra's own check repeats them
			}
		}
	}
	return root
}

// withConfiguration makes cmd run with its configuration open, within its timeout.
func (a *app) withConfiguration(cmd *cobra.Command, needs need, run func(context.Context, *session) error) {
	a.withObservedConfiguration(cmd, needs, a.messages, run)
}

func (a *app) withObservedConfiguration(cmd *cobra.Command, needs need, observer smartcred.Observer, run func(context.Context, *session) error) {
	c := addConfiguration(cmd)
	cmd.Args = noArguments
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := c.open(cmd.Context(), needs, observer)
		if err != nil {
			return err
		}
		defer o.Close()
		ctx, cancel := context.WithDeadline(cmd.Context(), o.deadline.Add(grace))
		defer cancel()
		return run(ctx, o)
	}
}

// printJSON prints v, indented.
func (a *app) printJSON(v any) error {
	text, err := indented(v)
	if err != nil {
		return err
	}
	return a.print(text)
}

// indented is v as JSON for people and programs, with a newline.
func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

// print writes a command's result, whole.
func (a *app) print(result []byte) error {
	if _, err := a.stdout.Write(result); err != nil {
		return &smartcred.ConfigError{Option: "standard output", Problem: "can't be written", Err: err}
	}
	return nil
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &smartcred.ConfigError{Problem: "there is a word that belongs to no flag: values follow their flag, booleans take =true or =false"}
	}
	return nil
}

func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &smartcred.ConfigError{Problem: "unknown command: there are " + commandNames(cmd)}
	}
	return nil
}

func whichCommand(cmd *cobra.Command, _ []string) error {
	return &smartcred.ConfigError{Problem: "which command? There are " + commandNames(cmd)}
}

func commandNames(cmd *cobra.Command) string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return strings.Join(names, ", ")
}

// flagError says what is wrong with the flags without what they were given: it
// may be a secret in the wrong place, also where a flag's name belongs.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var noValue *pflag.ValueRequiredError
	var wrong *pflag.InvalidValueError
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return err
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		name := unknown.GetSpecifiedName()
		switch {
		case !plainName.MatchString(name):
			return &smartcred.ConfigError{Problem: "an unknown flag; smartcred token --help lists all"}
		case !cmd.HasParent():
			return &smartcred.ConfigError{Option: "--" + name, Problem: "unknown here; flags follow the command"}
		default:
			return &smartcred.ConfigError{Option: "--" + name, Problem: unknownOption(name, "--", (*option).flag)}
		}
	case errors.As(err, &noValue):
		return &smartcred.ConfigError{Option: "--" + noValue.GetSpecifiedName(), Problem: "has no value"}
	case errors.As(err, &wrong):
		return &smartcred.ConfigError{Option: "--" + wrong.GetFlag().Name, Problem: "has a value that is no " + wrong.GetFlag().Value.Type()}
	default:
		return &smartcred.ConfigError{Problem: "a flag is malformed: they are written --name value or --name=value"}
	}
}

const statuses = `Exit status:
  0 done; 1 check or rotation status found something to act on;
  2 usage or configuration; 3 refused with an OAuth error, or lately so;
  4 secret source or signer failed; 5 server unreachable, or no OAuth answer
`

// usage writes a command's flags apart from those of the configuration.
func usage(cmd *cobra.Command) error {
	var b strings.Builder
	section := func(title, body string) {
		if body != "" {
			fmt.Fprintf(&b, "\n%s:\n%s\n", title, strings.TrimRight(body, "\n"))
		}
	}
	line := cmd.UseLine()
	switch {
	case !cmd.HasParent():
		line = cmd.CommandPath() + " COMMAND [flags]"
	case cmd.HasAvailableSubCommands() && cmd.Flags().Lookup("config") == nil:
		line = cmd.CommandPath() + " COMMAND [flags]"
	case cmd.HasAvailableSubCommands():
		line = cmd.CommandPath() + " [COMMAND] [flags]"
	}
	fmt.Fprintf(&b, "Usage:\n  %s\n", line)
	section("Example", cmd.Example)
	var commands strings.Builder
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(&commands, "  %-12s %s\n", c.Name(), c.Short)
		}
	}
	section("Commands", commands.String())
	own, keys := pflag.NewFlagSet("", 0), pflag.NewFlagSet("", 0)
	own.SortFlags, keys.SortFlags = false, false
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, ok := f.Annotations[configFlag]; ok {
			keys.AddFlag(f)
		} else {
			own.AddFlag(f)
		}
	})
	section("Flags", own.FlagUsages())
	section("Configuration (flags win over the file; lists are comma-separated or repeated)", keys.FlagUsages())
	b.WriteString("\n" + statuses)
	_, err := io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}
