package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/securefile"
)

// configFlag marks a flag that is a key of the configuration, for the help.
const configFlag = "smartcred_configuration"

// configuration is where a command's settings come from.
type configuration struct {
	file  string
	flags *pflag.FlagSet
}

// addConfiguration gives cmd the flag --config and one for each key.
func addConfiguration(cmd *cobra.Command) *configuration {
	c := &configuration{flags: cmd.Flags()}
	c.flags.SortFlags = false
	c.flags.StringVar(&c.file, "config", "", "YAML `file` with these options as keys, _ in place of -")
	mark(c.flags.Lookup("config"))
	for _, o := range options {
		if o.set == nil {
			continue
		}
		f := c.flags.VarPF(&rawValue{shape: o.shape}, o.flag(), "", o.usage)
		f.DefValue = o.fallback
		if o.shape == isBool {
			f.NoOptDefVal = "true"
		}
		mark(f)
	}
	return c
}

func mark(f *pflag.Flag) { f.Annotations = map[string][]string{configFlag: {}} }

// A rawValue keeps what a flag was given, so that it is checked together with
// the file and everything wrong is said at once.
type rawValue struct {
	shape  shape
	values []string
}

func (v *rawValue) Set(s string) error { v.values = append(v.values, s); return nil }
func (v *rawValue) String() string     { return "" }
func (v *rawValue) Type() string       { return string(v.shape) }

// load reads the file, and the flags over it. The error is of a file that can't
// be read at all.
func (c *configuration) load(ctx context.Context) (*settings, *findings, error) {
	s := defaults()
	var problems []error
	if c.file != "" {
		data, err := securefile.Read(ctx, c.file, securefile.Options{})
		if err != nil {
			return nil, nil, &smartcred.ConfigError{Option: "--config", Problem: "the file can't be read", Err: err}
		}
		root, err := document(data)
		if err != nil {
			return nil, nil, err
		}
		problems = readFile(s, root, filepath.Dir(c.file))
	}
	for i := range options {
		o := &options[i]
		f := c.flags.Lookup(o.flag())
		if o.set == nil || f == nil || !f.Changed {
			continue
		}
		s.dirs[o.key] = ""
		// A flag that is set takes the place of the file's value, right or wrong.
		problems = slices.DeleteFunc(problems, func(err error) bool { return keyOf(configProblems(err)[0]) == o.key })
		if err := o.setFromFlag(s, f.Value.(*rawValue).values); err != nil {
			problems = append(problems, &smartcred.ConfigError{Option: "--" + o.flag(), Problem: err.Error()})
		}
	}
	wrong := new(findings)
	wrong.add(problems...)
	return s, wrong, nil
}

func (o *option) setFromFlag(s *settings, given []string) error {
	if !o.shape.several() {
		if len(given) > 1 {
			return errors.New("is given twice")
		}
		return o.set(s, given)
	}
	var values []string
	for _, g := range given {
		for v := range strings.SplitSeq(g, ",") {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return o.set(s, values)
}

// secretNames are what people call a secret, who may put one here.
var secretNames = []string{"client_secret", "password", "passphrase", "private_key", "key", "pin", "token"}

// unknownKey is the error for a key of the file that does not exist.
func unknownKey(key string, line int) error {
	if !plainName.MatchString(key) {
		return fileError("", line, "an unknown key; smartcred token --help lists all")
	}
	return fileError(key, line, unknownOption(key, "", (*option).name))
}

// plainName is what an unknown flag or key may look like to be repeated. A secret that
// was pasted in its place has digits, capitals or other signs, or is longer.
var plainName = regexp.MustCompile(`^[a-z][a-z_-]{0,31}$`)

// unknownOption says what to do instead of writing name; prefix goes before the
// names of flags.
func unknownOption(name, prefix string, spelling func(*option) string) string {
	if slices.Contains(secretNames, strings.ReplaceAll(name, "-", "_")) {
		return "unknown; secrets do not belong here: secret and signer take a reference to where one is kept, such as file:PATH"
	}
	for i := range options {
		known := spelling(&options[i])
		switch {
		case name == known:
			return "unknown here; it is a map, which the configuration file alone has"
		case near(name, known):
			return fmt.Sprintf("unknown; did you mean %s%s?", prefix, known)
		}
	}
	return "unknown; smartcred token --help lists all"
}

// near reports whether a and b differ by two edits at most, and not by most of
// their length; - and _ count as one letter.
func near(a, b string) bool {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return false
	}
	a, b = strings.ReplaceAll(a, "-", "_"), strings.ReplaceAll(b, "-", "_")
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)] <= 2 && row[len(b)] < len(b)/2
}
