package vaultkv

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/vault"
)

var errMount = errors.New("the answer does not describe a mount")

// locate returns where the secret is, and asks Vault where that is not known. Any
// token that may read the secret may ask.
func (s *Source) locate(ctx context.Context) (place, error) {
	s.mu.Lock()
	where := s.place
	s.mu.Unlock()
	if where.kv != 0 {
		return where, nil
	}
	full := strings.TrimPrefix(where.mount+"/"+where.path, "/")
	answer, err := s.session.Read(ctx, "sys/internal/ui/mounts/"+full, nil)
	if errors.Is(err, smartcred.ErrDenied) && !errors.As(err, new(*vault.LoginError)) {
		return place{}, notTold(where, full)
	}
	if err != nil {
		return place{}, fmt.Errorf("find out what is mounted at %q: %w", full, err)
	}
	mount, _ := answer.Data["path"].(string)
	mount = strings.Trim(mount, "/")
	engine, _ := answer.Data["type"].(string)
	path, under := strings.CutPrefix(full, mount+"/")
	if mount == "" || !under || path == "" {
		return place{}, &smartcred.UnavailableError{Err: errMount}
	}
	if engine != "kv" && engine != "generic" {
		return place{}, &smartcred.ConfigError{Option: "mount", Problem: "what is mounted at " + mount + " is no KV secrets engine"}
	}
	if where.mount != "" && where.mount != mount {
		return place{}, &smartcred.ConfigError{Option: "mount", Problem: "is " + where.mount + ", and what Vault has there is mounted at " + mount}
	}
	found := place{mount: mount, path: path, kv: 1}
	if options, _ := answer.Data["options"].(map[string]any); options["version"] == "2" {
		found.kv = 2
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.place = where, found
	return found, nil
}

// notTold says what is missing: Vault tells what is mounted to whoever may do
// anything there. The path of that question is not what the policy lacks.
func notTold(where place, full string) error {
	mount, path := where.mount, where.path
	if mount == "" {
		mount, path, _ = strings.Cut(full, "/")
	}
	return fmt.Errorf("%w: Vault does not tell this token what is mounted at %q: the token is not valid any more, the mount is missing, or its policies lack the capability %q on path %q (KV version 2) or %q (version 1)",
		smartcred.ErrDenied, full, "read", mount+"/data/"+path, mount+"/"+path)
}

// forget makes the next look-up ask again, and reports whether Vault was asked.
func (s *Source) forget(where place) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == (place{}) {
		return false
	}
	if s.place == where {
		s.place, s.asked = s.asked, place{}
	}
	return true
}
