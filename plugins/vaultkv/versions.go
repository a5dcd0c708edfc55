package vaultkv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

// lookBack is how many earlier versions are looked at.
const lookBack = 5

var errVersion = errors.New("the answer does not describe a version of a KV secret")

// since is when the field got the value that it has in a version. It holds no
// value: a version never changes, but a secret made anew counts from 1 again.
type since struct {
	version int
	written time.Time // when the version was made
	created time.Time
}

// A version is one version of a KV version 2 secret.
type version struct {
	number  int
	created time.Time
	expires time.Time // when Vault will delete it; zero: never
	data    map[string]any
}

// lookupVersioned looks a stage up in KV version 2.
func (s *Source) lookupVersioned(ctx context.Context, where place, stage secretsource.Stage) (secretsource.Secret, error) {
	latest, err := s.readVersion(ctx, where, 0)
	if err != nil {
		return secretsource.Secret{}, err
	}
	value, err := s.value(latest.data)
	if err != nil {
		return secretsource.Secret{}, err
	}
	current := secretsource.New(value, strconv.Itoa(latest.number))
	current.Created, current.Expires = latest.created, latest.expires
	if stage == secretsource.Previous {
		previous, _, err := s.walk(ctx, where, latest, current)
		return previous, err
	}
	s.mu.Lock()
	known := s.since
	s.mu.Unlock()
	if known.version != latest.number || !known.written.Equal(latest.created) {
		_, created, err := s.walk(ctx, where, latest, current)
		if err != nil && !errors.Is(err, smartcred.ErrNotFound) {
			return current, nil // its age is not worth failing for; asked again next time
		}
		known = since{latest.number, latest.created, created}
		s.mu.Lock()
		s.since = known
		s.mu.Unlock()
	}
	current.Created = known.created
	return current, nil
}

// walk goes back from latest to the newest earlier version whose field differs,
// and tells since when the field had the present value.
func (s *Source) walk(ctx context.Context, where place, latest version, current secretsource.Secret) (secretsource.Secret, time.Time, error) {
	created := latest.created
	for n := latest.number - 1; n >= max(1, latest.number-lookBack); n-- {
		v, err := s.readVersion(ctx, where, n)
		if errors.Is(err, smartcred.ErrNotFound) {
			continue // deleted or destroyed
		}
		if err != nil {
			return secretsource.Secret{}, created, err
		}
		value, err := s.value(v.data)
		if err != nil {
			continue // the field was not there then
		}
		earlier := secretsource.New(value, strconv.Itoa(n))
		if !earlier.Equal(current) {
			earlier.Created, earlier.Expires = v.created, v.expires
			return earlier, created, nil
		}
		created = v.created
	}
	return secretsource.Secret{}, created, fmt.Errorf("%w: none of the last %d versions has another value of the field %q", smartcred.ErrNotFound, lookBack, s.field)
}

// readVersion reads a version; 0: the latest.
func (s *Source) readVersion(ctx context.Context, where place, number int) (version, error) {
	var params url.Values
	if number > 0 {
		params = url.Values{"version": {strconv.Itoa(number)}}
	}
	path := where.mount + "/data/" + where.path
	answer, err := s.session.Read(ctx, path, params)
	if err != nil {
		if gone := describe(answer); gone != "" && errors.Is(err, smartcred.ErrNotFound) {
			return version{}, fmt.Errorf("%w: %s", smartcred.ErrNotFound, gone)
		}
		return version{}, err
	}
	return parseVersion(answer.Data)
}

// describe says of a 404 with metadata what became of the version.
func describe(answer *api.Secret) string {
	if answer == nil {
		return ""
	}
	metadata, _ := answer.Data["metadata"].(map[string]any)
	number, _ := metadata["version"].(json.Number)
	if _, err := strconv.Atoi(number.String()); err != nil {
		return ""
	}
	if destroyed, _ := metadata["destroyed"].(bool); destroyed {
		return "version " + number.String() + " is destroyed"
	}
	return "version " + number.String() + " is deleted"
}

// parseVersion reads the answer of GET mount/data/path.
func parseVersion(answer map[string]any) (version, error) {
	text, err := json.Marshal(answer["metadata"])
	var metadata struct {
		Version  int    `json:"version"`
		Created  string `json:"created_time"`
		Deletion string `json:"deletion_time"`
	}
	if err == nil {
		err = json.Unmarshal(text, &metadata)
	}
	data, ok := answer["data"].(map[string]any)
	if err != nil || !ok || metadata.Version < 1 {
		return version{}, &smartcred.UnavailableError{Err: errVersion}
	}
	v := version{number: metadata.Version, data: data}
	if v.created, err = time.Parse(time.RFC3339Nano, metadata.Created); err != nil {
		return version{}, &smartcred.UnavailableError{Err: errVersion}
	}
	if metadata.Deletion != "" {
		if v.expires, err = time.Parse(time.RFC3339Nano, metadata.Deletion); err != nil {
			return version{}, &smartcred.UnavailableError{Err: errVersion}
		}
	}
	return v, nil
}
