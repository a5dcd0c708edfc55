package vaultkv

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/smartcred/smartcred"
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
	const help = "; kv=1 or kv=2 in the URI says which engine it is without asking"
	answer, err := s.session.Read(ctx, "sys/internal/ui/mounts/"+full, nil)
	if errors.Is(err, smartcred.ErrDenied) {
		return place{}, fmt.Errorf("%w: Vault does not tell this token what is mounted at %q: its policies allow nothing there, the mount is missing, or the login failed%s: %w",
			smartcred.ErrDenied, full, help, err)
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

// forget makes the next look-up ask again, where Vault was asked.
func (s *Source) forget(where place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.place == where && s.asked != (place{}) {
		s.place, s.asked = s.asked, place{}
	}
}
