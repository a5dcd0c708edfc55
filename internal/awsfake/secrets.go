package awsfake

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"
)

// Staging labels.
const (
	Current  = "AWSCURRENT"
	Previous = "AWSPREVIOUS"
	Pending  = "AWSPENDING"
)

type secret struct {
	name     string
	arn      string
	region   string
	account  string
	created  time.Time
	changed  time.Time
	rotated  time.Time
	rotation bool
	deleted  time.Time // when deletion was asked for; zero: not
	locked   bool      // its KMS key can't decrypt
	versions map[string]*version
}

type version struct {
	id      string
	text    *string
	binary  []byte
	created time.Time
	stages  []string
}

// empty reports whether the version is a label only, as RotateSecret makes it.
func (v *version) empty() bool { return v.text == nil && v.binary == nil }

// CreateSecret makes a secret with a current version, if value is not empty, and
// returns its ARN.
func (s *Server) CreateSecret(name, value string) (arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	made := s.makeSecret(Region, Account, name)
	if value != "" {
		made.put(s.now(), newID(), &value, nil, Current)
	}
	return made.arn
}

// CreateBinarySecret is CreateSecret with a SecretBinary.
func (s *Server) CreateBinarySecret(name string, value []byte) (arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	made := s.makeSecret(Region, Account, name)
	made.put(s.now(), newID(), nil, bytes.Clone(value), Current)
	return made.arn
}

// PutSecret makes a new version the current one, as PutSecretValue does, and
// returns its id.
func (s *Server) PutSecret(name, value string) (versionID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	versionID = newID()
	s.mustSecret(name).put(s.now(), versionID, &value, nil, Current)
	return versionID
}

// StageSecret makes a new version with a label of its own, and returns its id.
func (s *Server) StageSecret(name, value, stage string) (versionID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	versionID = newID()
	s.mustSecret(name).put(s.now(), versionID, &value, nil, stage)
	return versionID
}

// MoveStage puts a label on a version, and takes it off the one that has it;
// empty: off only.
func (s *Server) MoveStage(name, stage, versionID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mustSecret(name)
	k.label(stage, k.versions[versionID])
}

// Version returns the id of the version with a label; empty if none has it.
func (s *Server) Version(name, stage string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.mustSecret(name).at(stage); v != nil {
		return v.id
	}
	return ""
}

// SecretString returns the text of the version with a label; empty if none has it.
func (s *Server) SecretString(name, stage string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.mustSecret(name).at(stage); v != nil && v.text != nil {
		return *v.text
	}
	return ""
}

// DeleteSecret schedules a secret's deletion; RestoreSecret takes it back.
func (s *Server) DeleteSecret(name string) { s.setDeleted(name, s.now()) }

// RestoreSecret takes [Server.DeleteSecret] back.
func (s *Server) RestoreSecret(name string) { s.setDeleted(name, time.Time{}) }

func (s *Server) setDeleted(name string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustSecret(name).deleted = at
}

// FailDecryption makes reads of a secret fail as where its KMS key is disabled,
// until restore is called.
func (s *Server) FailDecryption(name string) (restore func()) {
	set := func(to bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mustSecret(name).locked = to
	}
	set(true)
	return func() { set(false) }
}

// makeSecret makes one without versions; s.mu is held.
func (s *Server) makeSecret(region, account, name string) *secret {
	arn := "arn:aws:secretsmanager:" + region + ":" + account + ":secret:" + name + "-" + newID()[:6]
	made := &secret{name: name, arn: arn, region: region, account: account, created: s.now(), changed: s.now(), versions: map[string]*version{}}
	s.secrets[arn] = made
	return made
}

// mustSecret finds a secret by name or ARN; s.mu is held.
func (s *Server) mustSecret(name string) *secret {
	for arn, k := range s.secrets {
		if arn == name || k.name == name {
			return k
		}
	}
	panic("awsfake: no secret " + name)
}

func (k *secret) at(stage string) *version {
	for _, v := range k.versions {
		if slices.Contains(v.stages, stage) {
			return v
		}
	}
	return nil
}

func (k *secret) put(now time.Time, id string, text *string, binary []byte, stages ...string) *version {
	v := &version{id: id, text: text, binary: binary, created: now}
	k.versions[id] = v
	for _, stage := range stages {
		k.label(stage, v)
	}
	k.changed = now
	return v
}

// label moves a label. With AWSCURRENT goes AWSPREVIOUS, to the version that was
// current.
func (k *secret) label(stage string, to *version) {
	from := k.at(stage)
	if from == to {
		return
	}
	if from != nil {
		from.stages = slices.DeleteFunc(from.stages, func(s string) bool { return s == stage })
	}
	if to != nil {
		to.stages = append(to.stages, stage)
	}
	if stage == Current && from != nil && to != nil {
		k.label(Previous, from)
	}
	// A version without labels is deprecated: AWS deletes it in time.
	maps.DeleteFunc(k.versions, func(_ string, v *version) bool { return len(v.stages) == 0 && v.empty() })
}

// secretNamed finds what a SecretId names: a name, an ARN, or an ARN without its
// six random characters. s.mu is held.
func (c *call) secretNamed(id string) (*secret, error) {
	c.record.Resource = id
	account := c.account
	if strings.HasPrefix(id, "arn:") {
		parts := strings.SplitN(id, ":", 7)
		if len(parts) != 7 || parts[2] != "secretsmanager" || parts[5] != "secret" {
			return nil, refuse("ValidationException", "Invalid ARN.")
		}
		account = parts[4]
	}
	for arn, k := range c.secrets {
		if k.region != c.region || k.account != account || arn != id && k.name != id && arn[:len(arn)-7] != id {
			continue
		}
		if k.account != c.account {
			break
		}
		return k, c.allowed(k.arn)
	}
	if account != c.account {
		return nil, c.accessDenied(id)
	}
	if err := c.allowed(id); err != nil {
		return nil, err
	}
	return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}
