package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// hyphenKID is a kid as RFC 7638 makes it from a SHA-256, where it begins with a
// hyphen, as one in 64 does. No flag looks like it.
var hyphenKID = regexp.MustCompile(`^-[A-Za-z0-9_-]{42}$`)

// kidLast returns args with the kid that stands where a flag might behind "--", so
// that it is read as what it is.
func kidLast(root *cobra.Command, args []string) []string {
	cmd, _, err := root.Find(args)
	if err != nil || cmd.Name() != revokeName {
		return args
	}
	for i, arg := range args {
		if arg == "--" {
			return args
		}
		if hyphenKID.MatchString(arg) && !(i > 0 && takesNext(cmd, args[i-1])) {
			return append(slices.Concat(args[:i], args[i+1:]), "--", arg)
		}
	}
	return args
}

// takesNext reports whether arg is a flag whose value is the next argument.
func takesNext(cmd *cobra.Command, arg string) bool {
	name, ok := strings.CutPrefix(arg, "--")
	if !ok {
		return false
	}
	flag := cmd.Flag(name)
	return flag != nil && flag.NoOptDefVal == ""
}
