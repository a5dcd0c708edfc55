package vault

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/securefile"
	"github.com/smartcred/smartcred/secretsource"
)

// A method logs in. Its credential is looked up anew for each login: tokens,
// secret ids and JWTs are replaced where they are kept.
type method interface {
	// credential looks up what is to log in.
	credential(ctx context.Context) (credential, error)
	// login sends it, or finds out about the token that it is.
	login(ctx context.Context, client *api.Client, c credential) (*lease, error)
	io.Closer
}

// A credential is what logs in: another one may be tried at once after a failure.
type credential struct {
	role  secretsource.Secret // AppRole's role id, by which Vault counts
	proof secretsource.Secret // secret id, wrapping token, JWT or token
}

// newMethod opens the sources that the configuration names.
func (c *Config) newMethod(ctx context.Context, opts *secretsource.OpenOptions) (_ method, err error) {
	opener := &sources{ctx: ctx, opts: opts}
	defer func() {
		if err != nil {
			err = errors.Join(err, opener.Close())
		}
	}()
	q := c.query
	switch c.Auth {
	case Token:
		if q.Has("token_file") {
			path := securefile.Resolve(opts.Dir, q.Get("token_file"))
			return &tokenMethod{sources: opener, source: opener.file(path), path: path}, nil
		}
		return &tokenMethod{sources: opener, source: secretsource.Env(api.EnvVaultToken, opts)}, nil
	case AppRole:
		m := &appRoleMethod{sources: opener, mount: c.AuthMount, role: q.Get("role")}
		if m.roleID, err = opener.either(q.Get("role_id"), q.Get("role_id_file"), "role_id", true); err != nil {
			return nil, err
		}
		m.wrapped = q.Has("wrapped_secret_id") || q.Has("wrapped_secret_id_file")
		if m.wrapped {
			m.secretID, err = opener.either(q.Get("wrapped_secret_id"), q.Get("wrapped_secret_id_file"), "wrapped_secret_id", false)
		} else {
			m.secretID, err = opener.either(q.Get("secret_id"), q.Get("secret_id_file"), "secret_id", false)
		}
		return m, err
	default:
		file := q.Get("jwt_file")
		if file == "" {
			file = kubernetesToken
		}
		return &jwtMethod{sources: opener, mount: c.AuthMount, role: q.Get("role"), jwt: opener.file(file)}, nil
	}
}

// sources opens secret sources, and closes them again.
type sources struct {
	ctx    context.Context
	opts   *secretsource.OpenOptions
	opened []io.Closer
}

func (s *sources) file(path string) secretsource.Source { return secretsource.File(path, s.opts) }

// either opens the source at uri or the file; literal: what is no URI is the value.
func (s *sources) either(uri, file, option string, literal bool) (secretsource.Source, error) {
	switch {
	case file != "":
		return s.file(file), nil
	case literal && !strings.Contains(uri, ":"):
		return secretsource.Static([]byte(uri)), nil
	}
	src, err := secretsource.Open(s.ctx, uri, s.opts)
	if err != nil {
		return nil, &smartcred.ConfigError{Option: option, Problem: "can't be opened", Err: err}
	}
	if c, ok := src.(io.Closer); ok {
		s.opened = append(s.opened, c)
	}
	return src, nil
}

// Close closes what either opened.
func (s *sources) Close() error {
	var errs []error
	for _, c := range s.opened {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// tokenMethod takes a token that somebody else got.
type tokenMethod struct {
	*sources
	source secretsource.Source
	path   string                      // of its file, which whoever put it there renews; empty: VAULT_TOKEN
	read   atomic.Pointer[fs.FileInfo] // the file as it was when it was read
}

// replaced reports whether the file is another one than was read. One that is
// missing is not: the token that was in it may serve on.
func (m *tokenMethod) replaced() bool {
	if m.path == "" {
		return false
	}
	now, err := os.Stat(m.path)
	was := m.read.Load()
	return err == nil && (was == nil || !os.SameFile(now, *was) || now.Size() != (*was).Size() || !now.ModTime().Equal((*was).ModTime()))
}

func (m *tokenMethod) credential(ctx context.Context) (credential, error) {
	if info, err := os.Stat(m.path); err == nil && m.path != "" {
		m.read.Store(&info) // before it is read: what changes meanwhile is read again
	}
	token, err := m.source.Lookup(ctx, secretsource.Current)
	if err != nil {
		return credential{}, fmt.Errorf("look up Vault token: %w", err)
	}
	value := token.Reveal()
	defer clear(value)
	if bytes.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return credential{}, fmt.Errorf("look up Vault token: %w", &smartcred.ConfigError{Option: cmp.Or(m.path, api.EnvVaultToken), Problem: "holds more than a token, which is one line"})
	}
	return credential{proof: token}, nil
}

// login asks for the token's life where it is to be renewed. A token without
// the default policy may not ask: it is used for as long as it lives.
func (m *tokenMethod) login(ctx context.Context, client *api.Client, c credential) (*lease, error) {
	l := &lease{token: c.proof}
	if m.path != "" {
		return l, nil
	}
	var header http.Header
	asked := time.Now()
	found, err := withToken(ctx, client, string(c.proof.Reveal()), &header).Auth().Token().LookupSelfWithContext(ctx)
	if status, _ := answer(err); status == http.StatusForbidden {
		return l, nil
	}
	if err != nil {
		return nil, call{"read", "auth/token/lookup-self"}.fail(ctx, err, header)
	}
	ttl, err := found.TokenTTL()
	if err == nil && ttl > 0 {
		renewable, _ := found.TokenIsRenewable()
		l.lives(asked, ttl, renewable)
	}
	return l, nil
}

// jwtMethod sends a JWT that says who this program is: auth methods kubernetes and jwt.
type jwtMethod struct {
	*sources
	mount, role string
	jwt         secretsource.Source
}

func (m *jwtMethod) credential(ctx context.Context) (credential, error) {
	jwt, err := m.jwt.Lookup(ctx, secretsource.Current)
	if err != nil {
		return credential{}, fmt.Errorf("look up JWT for Vault: %w", err)
	}
	return credential{proof: jwt}, nil
}

func (m *jwtMethod) login(ctx context.Context, client *api.Client, c credential) (*lease, error) {
	return sendLogin(ctx, client, m.mount, map[string]any{"role": m.role, "jwt": string(c.proof.Reveal())})
}

// sendLogin posts to a method's login path.
func sendLogin(ctx context.Context, client *api.Client, mount string, data map[string]any) (*lease, error) {
	var header http.Header
	where := call{"update", path.Join("auth", mount, "login")}
	asked := time.Now()
	answered, err := withToken(ctx, client, "", &header).Logical().WriteWithContext(ctx, where.path, data)
	switch status, _ := answer(err); {
	case status == http.StatusBadRequest || status == http.StatusForbidden:
		return nil, fmt.Errorf("%w: Vault answered %d to the login at path %q: check that the auth method is mounted there, that the role exists, and that what logs in to it is right, not expired, not used up and not bound to other addresses", smartcred.ErrDenied, status, where.path)
	case err != nil:
		return nil, where.fail(ctx, err, header)
	}
	if answered == nil || answered.Auth == nil || answered.Auth.ClientToken == "" {
		return nil, &smartcred.UnavailableError{Err: errGarbage}
	}
	a := answered.Auth
	l := &lease{token: secretsource.New([]byte(a.ClientToken), a.Accessor), ours: true, batch: strings.HasPrefix(a.ClientToken, "hvb.") || strings.HasPrefix(a.ClientToken, "b.")}
	if a.LeaseDuration > 0 {
		l.lives(asked, seconds(a.LeaseDuration), a.Renewable)
	}
	return l, nil
}
