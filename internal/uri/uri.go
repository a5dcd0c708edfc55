// Package uri opens backends by the scheme of their URI. It knows neither
// secrets nor keys; the packages that do share it.
package uri

import (
	"maps"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/smartcred/smartcred"
)

// A Registry finds the opener of a URI. Its fields are set before its first use;
// it is safe for concurrent use then.
type Registry[O any] struct {
	Package string // begins the messages of panics
	Noun    string // what such a URI names: "a signer"
	Misuse  string // what may stand in its place by mistake: "a key itself"

	// Openers are those by scheme, to begin with.
	Openers map[string]O
	// Plugins are the schemes that a program has only if it imports them, with
	// the package that does.
	Plugins map[string]string
	// Foreign are the schemes of URIs that name something else, which is Other:
	// "a secret".
	Foreign []string
	Other   string

	mu sync.RWMutex
}

// Register adds the opener of a scheme. It panics if the scheme is not one (RFC
// 3986 section 3.1, lower case) or is taken.
func (r *Registry[O]) Register(scheme string, open O) {
	if !isScheme(scheme) {
		panic(r.Package + ": register " + `"` + scheme + `"` + ": not a lower-case URI scheme")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.Openers[scheme]; taken {
		panic(r.Package + ": register " + scheme + ": registered already")
	}
	r.Openers[scheme] = open
}

// Find parses text and returns it with its opener and its scheme. Errors are
// [smartcred.ErrInvalidConfig] and hold nothing of text but a scheme of
// smartcred's: it may be a secret that was put in the wrong place.
func (r *Registry[O]) Find(text string) (open O, u *url.URL, scheme string, err error) {
	scheme, _, found := strings.Cut(text, ":")
	scheme = strings.ToLower(scheme)
	if !found || !isScheme(scheme) {
		return open, nil, "", &smartcred.ConfigError{Problem: "not " + r.Noun + "'s URI (" + r.Misuse + " does not belong here): it begins with " + r.schemes()}
	}
	r.mu.RLock()
	open, found = r.Openers[scheme]
	r.mu.RUnlock()
	if !found {
		return open, nil, "", r.unknown(scheme)
	}
	u, err = url.Parse(text) // its errors quote the URI
	if err != nil {
		return open, nil, "", &smartcred.ConfigError{Option: scheme, Problem: "not a valid URI: special characters are written percent-encoded"}
	}
	if u.Fragment == "" && strings.HasSuffix(text, "#") {
		return open, nil, "", &smartcred.ConfigError{Option: scheme, Problem: "the URI ends in # and names nothing after it"}
	}
	return open, u, scheme, nil
}

// unknown does not print a scheme that nobody knows: in "abc:def" it may be the
// first half of a secret.
func (r *Registry[O]) unknown(scheme string) error {
	if path, ok := r.Plugins[scheme]; ok {
		return &smartcred.ConfigError{Option: scheme, Problem: "this program was built without it: import " + path + "; it has " + r.schemes()}
	}
	if slices.Contains(r.Foreign, scheme) {
		return &smartcred.ConfigError{Option: scheme, Problem: r.Other + "'s scheme: " + r.Noun + "'s URI begins with " + r.schemes()}
	}
	return &smartcred.ConfigError{Problem: "unknown scheme: " + r.Noun + "'s URI begins with " + r.schemes()}
}

// schemes lists what is registered, then what could be, with the import it needs.
func (r *Registry[O]) schemes() string {
	r.mu.RLock()
	known := slices.Sorted(maps.Keys(r.Openers))
	r.mu.RUnlock()
	for i, s := range known {
		known[i] = s + ":"
	}
	for _, s := range slices.Sorted(maps.Keys(r.Plugins)) {
		if !slices.Contains(known, s+":") {
			known = append(known, s+": (import "+r.Plugins[s]+")")
		}
	}
	return strings.Join(known, ", ")
}

// isScheme reports whether s is a URI scheme in lower case.
func isScheme(s string) bool {
	return s != "" && 'a' <= s[0] && s[0] <= 'z' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}

// FilePath returns the path that a file URI names (RFC 8089), which may be
// relative: file:path. The fragment is the caller's.
func FilePath(u *url.URL) (string, error) {
	path := u.Path
	if u.Opaque != "" {
		var err error
		if path, err = url.PathUnescape(u.Opaque); err != nil {
			path = ""
		}
	}
	if path == "" || u.User != nil || u.Host != "" && u.Host != "localhost" {
		return "", &smartcred.ConfigError{Problem: "not of the form file:///absolute/path or file:relative/path, percent-encoded"}
	}
	// file:///C:/dir has the path /C:/dir.
	if runtime.GOOS == "windows" && len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:]
	}
	return filepath.FromSlash(path), nil
}
