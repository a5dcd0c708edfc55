package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

// appRoleMethod logs in to a role with a role id and a secret id, which may come
// response-wrapped.
type appRoleMethod struct {
	*sources
	mount    string
	role     string // the name that a wrapped secret id must have been made for; empty: any
	roleID   secretsource.Source
	secretID secretsource.Source
	wrapped  bool

	mu        sync.Mutex
	unwrapped secretsource.Secret // the secret id that came out of wrapping
	wrapping  secretsource.Secret // the wrapping token that it came out of
}

func (m *appRoleMethod) credential(ctx context.Context) (credential, error) {
	roleID, err := m.roleID.Lookup(ctx, secretsource.Current)
	if err != nil {
		return credential{}, fmt.Errorf("look up AppRole role id: %w", err)
	}
	secretID, err := m.secretID.Lookup(ctx, secretsource.Current)
	if err == nil {
		return credential{role: roleID, proof: secretID}, nil
	}
	// A wrapping token is used once: whoever put it there may have removed it since.
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wrapped && !m.wrapping.IsZero() {
		return credential{role: roleID, proof: m.wrapping}, nil
	}
	return credential{}, fmt.Errorf("look up AppRole secret id: %w", err)
}

func (m *appRoleMethod) login(ctx context.Context, client *api.Client, c credential) (*lease, error) {
	secretID := c.proof
	if m.wrapped {
		var err error
		if secretID, err = m.unwrap(ctx, client, c.proof); err != nil {
			return nil, err
		}
	}
	return sendLogin(ctx, client, m.mount, map[string]any{
		"role_id": string(c.role.Reveal()), "secret_id": string(secretID.Reveal()),
	})
}

// An UnwrapError says that a wrapping token was not the one it should have been:
// it is used, expired, or wraps something else. Whoever took it may have what was
// in it.
type UnwrapError struct{ Problem string }

// Error implements error.
func (e *UnwrapError) Error() string {
	return "unwrap secret id: " + e.Problem + ": somebody else may have the secret id; destroy it and have a new one wrapped"
}

// Is reports whether target is [smartcred.ErrDenied].
func (e *UnwrapError) Is(target error) bool { return target == smartcred.ErrDenied }

// unwrap returns the secret id that is wrapped, once for each wrapping token.
// Where it was made is looked at first: a token that wraps something else would
// be an attacker's.
func (m *appRoleMethod) unwrap(ctx context.Context, client *api.Client, wrapping secretsource.Secret) (secretsource.Secret, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wrapping.Equal(wrapping) && !m.unwrapped.IsZero() {
		return m.unwrapped, nil
	}
	token := string(wrapping.Reveal())
	var header http.Header
	lookup := call{"update", "sys/wrapping/lookup"}
	info, err := withToken(ctx, client, "", &header).Logical().WriteWithContext(ctx, lookup.path, map[string]any{"token": token})
	if err != nil {
		return secretsource.Secret{}, m.unwrapFailed(lookup.fail(ctx, err, header))
	}
	if info == nil || !m.madeHere(text(info.Data, "creation_path")) {
		return secretsource.Secret{}, &UnwrapError{Problem: "the wrapping token was not made by generating a secret id of this role"}
	}
	unwrap := call{"update", "sys/wrapping/unwrap"}
	inside, err := withToken(ctx, client, token, &header).Logical().WriteWithContext(ctx, unwrap.path, nil)
	if err != nil {
		return secretsource.Secret{}, m.unwrapFailed(unwrap.fail(ctx, err, header))
	}
	if inside == nil || text(inside.Data, "secret_id") == "" {
		return secretsource.Secret{}, &UnwrapError{Problem: "no secret id is in it"}
	}
	m.unwrapped, m.wrapping = secretsource.New([]byte(text(inside.Data, "secret_id")), ""), wrapping
	return m.unwrapped, nil
}

// unwrapFailed tells a token that was not taken from a Vault that did not answer.
func (m *appRoleMethod) unwrapFailed(err error) error {
	if errors.Is(err, smartcred.ErrDenied) || errors.Is(err, smartcred.ErrNotFound) {
		return &UnwrapError{Problem: "the wrapping token is used already, or has expired"}
	}
	return err
}

// madeHere reports whether a wrapping token was made by generating a secret id
// (auth/MOUNT/role/ROLE/secret-id).
func (m *appRoleMethod) madeHere(creationPath string) bool {
	rest, ok := strings.CutPrefix(creationPath, "auth/"+m.mount+"/role/")
	if !ok {
		return false
	}
	role, ok := strings.CutSuffix(rest, "/secret-id")
	return ok && role != "" && !strings.Contains(role, "/") && (m.role == "" || role == m.role)
}

func text(data map[string]any, name string) string {
	s, _ := data[name].(string)
	return s
}
