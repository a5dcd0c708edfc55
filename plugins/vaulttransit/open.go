package vaulttransit

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/vault"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// Scheme is the scheme of this package's URIs.
const Scheme = "vault-transit"

func init() { signer.Register(Scheme, open) }

func open(ctx context.Context, u *url.URL, opts *signer.OpenOptions) (signer.Signer, error) {
	query, err := secretsource.CheckQuery(u, vault.QueryOptions("version")...)
	if err != nil {
		return nil, err
	}
	if u.Fragment != "" {
		return nil, &smartcred.ConfigError{Problem: "a key has no fields: # belongs to secrets' URIs"}
	}
	path, err := vault.Path(u)
	if err != nil {
		return nil, err
	}
	o := Options{Algorithm: opts.Algorithm, PublishFor: opts.PublishFor}
	key := path
	if o.Mount = strings.Trim(query.Get("mount"), "/"); o.Mount != "" {
		rest, ok := strings.CutPrefix(path, o.Mount+"/")
		if !ok {
			return nil, &smartcred.ConfigError{Option: "mount", Problem: "is not what the path begins with: the URI is vault-transit://MOUNT/KEY, and mount says where it divides"}
		}
		key = rest
	} else if i := strings.LastIndexByte(path, '/'); i > 0 {
		o.Mount, key = path[:i], path[i+1:]
	} else {
		return nil, &smartcred.ConfigError{Problem: "not of the form vault-transit://MOUNT/KEY: the mount or the key is missing"}
	}
	if query.Has("version") {
		if o.Version, err = strconv.Atoi(query.Get("version")); err != nil || o.Version < 1 {
			return nil, &smartcred.ConfigError{Option: "version", Problem: "is no number from 1 on"}
		}
	}
	config, err := vault.ParseConfig(query)
	if err != nil {
		return nil, err
	}
	session, err := vault.Open(ctx, config, &opts.OpenOptions)
	if err != nil {
		return nil, err
	}
	s, err := newSigner(session, key, &o)
	if err != nil {
		_ = session.Close()
		return nil, err
	}
	return s, nil
}
