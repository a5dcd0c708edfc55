package smartauthtest

import (
	"slices"
	"strings"
)

// A scope is a SMART resource scope (SMART scopes-and-launch-context). Any
// other scope is only compared as text.
type scope struct {
	level, resource, access, query string
	v1                             bool
}

// parseScope reads level/Resource.cruds?query; v1's read, write and * are read
// as rs, cud and cruds.
func parseScope(text string) (sc scope, ok bool) {
	level, rest, ok := strings.Cut(text, "/")
	if !ok || !slices.Contains([]string{"patient", "user", "system"}, level) {
		return scope{}, false
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	resource, access, ok := strings.Cut(rest, ".")
	if !ok || resource == "" || hasQuery && query == "" {
		return scope{}, false
	}
	sc = scope{level: level, resource: resource, query: query}
	switch access {
	case "read":
		sc.access, sc.v1 = "rs", true
	case "write":
		sc.access, sc.v1 = "cud", true
	case "*":
		sc.access, sc.v1 = "cruds", true
	default:
		if access == "" || common("cruds", access) != access {
			return scope{}, false
		}
		sc.access = access
	}
	return sc, true
}

// common returns the letters of a that b has too, in a's order.
func common(a, b string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(b, r) {
			return r
		}
		return -1
	}, a)
}

func (sc scope) String() string {
	text := sc.level + "/" + sc.resource + "." + sc.access
	if sc.query != "" {
		text += "?" + sc.query
	}
	return text
}

// intersect returns what both a and b allow, spelled as a where that is all of a.
func intersect(a, b string) string {
	if a == b {
		return a
	}
	x, ok := parseScope(a)
	y, ok2 := parseScope(b)
	if !ok || !ok2 || x.level != y.level {
		return ""
	}
	both := x
	switch {
	case x.resource == y.resource || y.resource == "*":
	case x.resource == "*":
		both.resource = y.resource
	default:
		return ""
	}
	switch {
	case x.query == y.query || y.query == "":
	case x.query == "":
		both.query = y.query
	default:
		return ""
	}
	if both.access = common(x.access, y.access); both.access == "" {
		return ""
	}
	if both == x {
		return a
	}
	both.v1 = false
	return both.String()
}

// grantable returns requested ∩ allowed for a kind of grant, in the order asked.
// A nil allowed allows every SMART scope.
func grantable(requested, allowed []string, system bool) []string {
	var granted []string
	add := func(text string) {
		if text != "" && !slices.Contains(granted, text) {
			granted = append(granted, text)
		}
	}
	for _, want := range requested {
		sc, resource := parseScope(want)
		if resource && (sc.level == "system") != system {
			continue
		}
		if !resource && system && (isLaunchScope(want) || allowed == nil) {
			continue
		}
		if allowed == nil {
			if resource || isLaunchScope(want) {
				add(want)
			}
			continue
		}
		for _, have := range allowed {
			add(intersect(want, have))
		}
	}
	return granted
}

func isLaunchScope(text string) bool {
	return slices.Contains([]string{"openid", "fhirUser", "profile", "launch", "offline_access", "online_access"}, text) ||
		strings.HasPrefix(text, "launch/")
}

// covers reports whether every scope of narrow is within one of wide.
func covers(wide, narrow []string) bool {
	for _, n := range narrow {
		if !slices.ContainsFunc(wide, func(w string) bool { return intersect(n, w) == n }) {
			return false
		}
	}
	return true
}

// splitScope reads a scope parameter by RFC 6749 section 3.3: single spaces
// between tokens of %x21, %x23-5B and %x5D-7E.
func splitScope(text string) ([]string, bool) {
	if text == "" {
		return nil, true
	}
	list := strings.Split(text, " ")
	for _, token := range list {
		if token == "" || descriptive(token) != token {
			return nil, false
		}
	}
	return list, true
}
