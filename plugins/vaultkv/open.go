package vaultkv

import (
	"context"
	"net/url"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/vault"
	"github.com/smartcred/smartcred/secretsource"
)

// Scheme is the scheme of this package's URIs.
const Scheme = "vault-kv"

func init() { secretsource.Register(Scheme, open) }

func open(ctx context.Context, u *url.URL, opts *secretsource.OpenOptions) (secretsource.Source, error) {
	query, err := secretsource.CheckQuery(u, vault.QueryOptions("kv")...)
	if err != nil {
		return nil, err
	}
	where, err := parsePlace(u, query)
	if err != nil {
		return nil, err
	}
	config, err := vault.ParseConfig(query)
	if err != nil {
		return nil, err
	}
	session, err := vault.Open(ctx, config, opts)
	if err != nil {
		return nil, err
	}
	s, err := newSource(session, where, u.Fragment, opts)
	if err != nil {
		_ = session.Close()
		return nil, err
	}
	return s, nil
}

// parsePlace divides the path where mount says, else, if kv says that Vault is
// not to be asked, behind its first part.
func parsePlace(u *url.URL, query url.Values) (place, error) {
	path, err := vault.Path(u)
	if err != nil {
		return place{}, err
	}
	where := place{path: path}
	switch query.Get("kv") {
	case "":
	case "1":
		where.kv = 1
	case "2":
		where.kv = 2
	default:
		return place{}, &smartcred.ConfigError{Option: "kv", Problem: "is neither 1 nor 2"}
	}
	mount := strings.Trim(query.Get("mount"), "/")
	first, rest, found := strings.Cut(path, "/")
	switch {
	case !found:
		return place{}, &smartcred.ConfigError{Problem: "not of the form vault-kv://MOUNT/PATH#FIELD: the mount or the path is missing"}
	case mount != "":
		var ok bool
		if where.path, ok = strings.CutPrefix(path, mount+"/"); !ok {
			return place{}, &smartcred.ConfigError{Option: "mount", Problem: "is not what the path begins with: the URI is vault-kv://MOUNT/PATH#FIELD, and mount says where it divides"}
		}
		where.mount = mount
	case where.kv != 0:
		where.mount, where.path = first, rest
	}
	return where, nil
}
