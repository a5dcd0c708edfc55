package vault

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred/secretsource"
)

// logins are those in use in this process, and how those that are closed have
// failed: Vault counts failed logins by role, whoever fails.
var logins = struct {
	mu     sync.Mutex
	byKey  map[string]*login
	closed map[string]pace
}{byKey: map[string]*login{}, closed: map[string]pace{}}

// acquire returns the login that the configuration describes. release it.
func acquire(ctx context.Context, c *Config, opts *secretsource.OpenOptions) (*login, error) {
	key := c.key(opts)
	if l := join(key, nil); l != nil {
		return l, nil
	}
	client, err := c.newClient(opts)
	if err != nil {
		return nil, err
	}
	// Not under the lock: what logs in may be kept in Vault too, behind another login.
	m, err := c.newMethod(ctx, opts)
	if err != nil {
		return nil, err
	}
	l := &login{
		key: key, client: func() *api.Client { return client }, method: m,
		observer: opts.Observer, backend: c.Address, wake: make(chan struct{}, 1),
	}
	l.ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	used := join(key, l)
	if used != l { // somebody else opened the same one meanwhile
		l.close()
	}
	return used, nil
}

// join returns the login that is in use under key, which becomes other where there
// is none.
func join(key string, other *login) *login {
	logins.mu.Lock()
	defer logins.mu.Unlock()
	l := logins.byKey[key]
	if l == nil {
		if l = other; l == nil {
			return nil
		}
		logins.byKey[key] = l
		if p, ok := logins.closed[key]; ok {
			l.pace = p
			delete(logins.closed, key)
		}
	}
	l.refs++
	return l
}

// release closes a login when the last of its Sessions is gone.
func release(l *login) {
	logins.mu.Lock()
	l.refs--
	last := l.refs == 0
	if last {
		delete(logins.byKey, l.key)
		now := time.Now()
		maps.DeleteFunc(logins.closed, func(_ string, p pace) bool { return !p.matters(now) })
		l.mu.Lock()
		if l.pace.matters(now) {
			logins.closed[l.key] = l.pace
		}
		l.mu.Unlock()
	}
	logins.mu.Unlock()
	if last {
		l.close()
	}
}

// key tells logins apart: everything that they are made of.
func (c *Config) key(opts *secretsource.OpenOptions) string {
	login := make(map[string]string, len(loginOptions))
	for name := range loginOptions {
		login[name] = c.query.Get(name)
	}
	environment := ""
	if c.ambient {
		environment = os.Getenv(api.EnvVaultNamespace)
	}
	return fmt.Sprintf("%q %q %q %q %q %q %t %t %t", c.Address, cmp.Or(c.Namespace, environment), c.Auth, c.AuthMount, login, opts.Dir,
		opts.InsecureBackendTLS, opts.AllowInsecureLoopback, opts.InsecurePermissions)
}
