package secretsource

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/smartcred/smartcred"
)

// plugins are smartcred's schemes that a program has only if it imports them.
var plugins = map[string]string{
	"awssecretsmanager": "github.com/smartcred/smartcred/plugins/awssecretsmanager",
	"plugin":            "github.com/smartcred/smartcred/plugins/program",
	"vault-kv":          "github.com/smartcred/smartcred/plugins/vaultkv",
}

// signerSchemes are smartcred's schemes of private keys.
var signerSchemes = []string{"awskms", "pkcs11", "vault-transit"}

func noURI() error {
	return &smartcred.ConfigError{Problem: "not a secret source's URI (a secret itself does not belong here): it begins with " + schemes()}
}

// unknownScheme does not print a scheme that nobody knows: in "abc:def" it may
// be the first half of a secret.
func unknownScheme(scheme string) error {
	if path, ok := plugins[scheme]; ok {
		return &smartcred.ConfigError{Option: scheme, Problem: "this program was built without it: import " + path + "; it has " + schemes()}
	}
	if slices.Contains(signerSchemes, scheme) {
		return &smartcred.ConfigError{Option: scheme, Problem: "a signer's scheme: a secret's URI begins with " + schemes()}
	}
	return &smartcred.ConfigError{Problem: "unknown scheme: a secret source's URI begins with " + schemes()}
}

// schemes lists what is registered, then what could be, with the import it needs.
func schemes() string {
	registry.RLock()
	known := slices.Sorted(maps.Keys(registry.openers))
	registry.RUnlock()
	for i, s := range known {
		known[i] = s + ":"
	}
	for _, s := range slices.Sorted(maps.Keys(plugins)) {
		if !slices.Contains(known, s+":") {
			known = append(known, s+": (import "+plugins[s]+")")
		}
	}
	return strings.Join(known, ", ")
}

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
