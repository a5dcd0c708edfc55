package smartauth

import (
	"net/url"
	"slices"
	"strings"
)

// Permissions are the interactions that a resource scope allows, as a set.
type Permissions uint8

// The interactions of SMART scopes, version 2.
const (
	PermissionCreate Permissions = 1 << iota
	PermissionRead
	PermissionUpdate
	PermissionDelete
	PermissionSearch
)

const permissionLetters = "cruds"

// String returns the letters of p in the order the grammar wants: "rs".
func (p Permissions) String() string {
	var b strings.Builder
	for i := range len(permissionLetters) {
		if p&(1<<i) != 0 {
			b.WriteByte(permissionLetters[i])
		}
	}
	return b.String()
}

// A Scope is a SMART scope for clinical data:
// (patient|user|system)/(Type|*).(c?r?u?d?s?)[?param=value&…], or of version 1
// with .read, .write or .* in place of the letters.
type Scope struct {
	Context     string // patient, user or system
	Resource    string // a FHIR resource type, or * for all
	Permissions Permissions
	Query       string // search parameters that narrow it, without the question mark
}

// ParseScope reads a SMART scope for clinical data of either version. It reports
// false for every other scope (openid, launch/patient, a vendor's own): these
// are not malformed, they have no such parts.
func ParseScope(s string) (Scope, bool) {
	s, query, narrowed := strings.Cut(s, "?")
	context, rest, _ := strings.Cut(s, "/")
	resource, letters, _ := strings.Cut(rest, ".")
	permissions, version1 := parsePermissions(letters)
	switch {
	case context != "patient" && context != "user" && context != "system",
		resource != "*" && !isLetters(resource),
		permissions == 0,
		narrowed && (version1 || query == ""):
		return Scope{}, false
	}
	return Scope{Context: context, Resource: resource, Permissions: permissions, Query: query}, true
}

// String returns the scope in version 2's form.
func (s Scope) String() string {
	out := s.Context + "/" + s.Resource + "." + s.Permissions.String()
	if s.Query != "" {
		out += "?" + s.Query
	}
	return out
}

// reaches reports whether every resource that t is about is one that s is about.
func (s Scope) reaches(t Scope) bool {
	return s.Context == t.Context &&
		(s.Resource == "*" || s.Resource == t.Resource) &&
		(s.Query == "" || sameQuery(s.Query, t.Query))
}

// MissingScopes returns those of the requested scopes that the granted ones do
// not cover. Versions 1 and 2 count alike (.read is .rs, .write is .cud, .* is
// .cruds), letters may come from several granted scopes, * covers each type, and
// a scope without search parameters covers one with them. Other scopes are
// compared as they are.
func MissingScopes(requested, granted []string) []string {
	var grants []Scope
	for _, g := range granted {
		if s, ok := ParseScope(g); ok {
			grants = append(grants, s)
		}
	}
	var missing []string
	for _, r := range normalizeScopes(requested) {
		if !slices.Contains(granted, r) && !covered(r, grants) {
			missing = append(missing, r)
		}
	}
	return missing
}

func covered(requested string, grants []Scope) bool {
	want, ok := ParseScope(requested)
	if !ok {
		return false
	}
	var got Permissions
	for _, g := range grants {
		if g.reaches(want) {
			got |= g.Permissions
		}
	}
	return got&want.Permissions == want.Permissions
}

// normalizeScopes returns the scopes one an element, sorted, each once. The
// order and number of scopes in a request have no meaning (RFC 6749 section 3.3).
func normalizeScopes(scopes []string) []string {
	var out []string
	for _, s := range scopes {
		out = append(out, strings.Fields(s)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// scopeKey returns the same text for the same set of scopes.
func scopeKey(scopes []string) string { return strings.Join(normalizeScopes(scopes), " ") }

// parsePermissions returns 0 for what the grammar does not allow.
func parsePermissions(letters string) (p Permissions, version1 bool) {
	switch letters {
	case "read":
		return PermissionRead | PermissionSearch, true
	case "write":
		return PermissionCreate | PermissionUpdate | PermissionDelete, true
	case "*":
		return 1<<len(permissionLetters) - 1, true
	}
	last := -1
	for _, c := range letters {
		at := strings.IndexRune(permissionLetters, c)
		if at <= last {
			return 0, false
		}
		p |= 1 << at
		last = at
	}
	return p, false
}

func sameQuery(a, b string) bool {
	if a == b {
		return true
	}
	av, errA := url.ParseQuery(a)
	bv, errB := url.ParseQuery(b)
	return errA == nil && errB == nil && av.Encode() == bv.Encode()
}

func isLetters(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return s != ""
}
