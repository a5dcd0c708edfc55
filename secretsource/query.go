package secretsource

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/smartcred/smartcred"
)

// CheckQuery returns the query options of uri. One that is not among known, is
// given twice, or is not a name and a value is an error, which names the known
// ones and prints no value.
func CheckQuery(uri *url.URL, known ...string) (url.Values, error) {
	names := "it has none"
	if len(known) > 0 {
		names = "known are " + strings.Join(known, ", ")
	}
	values, err := url.ParseQuery(uri.RawQuery) // its errors quote the query
	if err != nil {
		return nil, &smartcred.ConfigError{Problem: "the URI's query is malformed: options are name=value, joined by &, percent-encoded"}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case !slices.Contains(known, name):
			return nil, &smartcred.ConfigError{Problem: "unknown query option" + quoted(name) + ": " + names}
		case len(values[name]) > 1:
			return nil, &smartcred.ConfigError{Option: name, Problem: "given twice"}
		}
	}
	return values, nil
}

// quoted returns name in quotes, or nothing where it does not look like an
// option: it may be part of a secret that holds a question mark.
func quoted(name string) string {
	if len(name) > 32 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz-_") != "" {
		return ""
	}
	return " " + `"` + name + `"`
}
