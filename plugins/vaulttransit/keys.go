package vaulttransit

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

// maxVersions bounds what is read of a key: Vault keeps all, and a set publishes four.
const maxVersions = 64

var errShape = errors.New("the answer does not describe a Transit key")

// A keyInfo is what Vault says about a key.
type keyInfo struct {
	Type                 string                     `json:"type"`
	Versions             map[string]json.RawMessage `json:"keys"`
	MinEncryptionVersion int                        `json:"min_encryption_version"`
	MinAvailableVersion  int                        `json:"min_available_version"`
	Derived              bool                       `json:"derived"`
	Exportable           bool                       `json:"exportable"`
	PlaintextBackup      bool                       `json:"allow_plaintext_backup"`
	Imported             bool                       `json:"imported_key"`
}

type versionInfo struct {
	PublicKey string    `json:"public_key"`
	Created   time.Time `json:"creation_time"`
}

// parseKey reads the answer of GET mount/keys/name.
func parseKey(data map[string]any) (*keyInfo, error) {
	text, err := json.Marshal(data)
	var info keyInfo
	if err == nil {
		err = json.Unmarshal(text, &info)
	}
	if err != nil || info.Type == "" || info.Versions == nil {
		return nil, &smartcred.UnavailableError{Err: errShape}
	}
	switch info.Type {
	case "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256":
		if info.Derived {
			return nil, fmt.Errorf("%w: the key is derived, so it has no public half of its own", smartcred.ErrUnsupportedAlgorithm)
		}
		return &info, nil
	case "managed_key":
		return nil, fmt.Errorf("%w: Vault does not show the public half of a managed key", smartcred.ErrUnsupportedAlgorithm)
	default:
		return nil, fmt.Errorf("%w: the key is of a type that can't sign assertions; make one with type=ecdsa-p384 or type=rsa-3072", smartcred.ErrUnsupportedAlgorithm)
	}
}

// numbers returns the versions that exist, newest first.
func (k *keyInfo) numbers() ([]int, error) {
	var numbers []int
	for name := range k.Versions {
		n, err := strconv.Atoi(name)
		if err != nil || n < 1 || strconv.Itoa(n) != name {
			return nil, &smartcred.UnavailableError{Err: errShape}
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers[:min(len(numbers), maxVersions)], nil
}

// list returns the versions that may sign.
func (k *keyInfo) list(opts Options) ([]signer.Key, error) {
	numbers, err := k.numbers()
	if err != nil {
		return nil, err
	}
	least := max(k.MinEncryptionVersion, k.MinAvailableVersion)
	if v := opts.Version; v > 0 {
		switch {
		case !slices.Contains(numbers, v):
			return nil, fmt.Errorf("%w: the key has no version %d", smartcred.ErrNotFound, v)
		case v < least:
			return nil, fmt.Errorf("%w: version %d is below the key's min_encryption_version %d: it is revoked", smartcred.ErrNotFound, v, least)
		}
	}
	var keys []signer.Key
	for _, n := range numbers {
		if n < least {
			continue
		}
		key, created, err := k.version(n, opts.Algorithm)
		if err != nil {
			return nil, err
		}
		key.NotBefore = notBefore(n, created, opts)
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: the key has no version from min_encryption_version %d on", smartcred.ErrNotFound, least)
	}
	if oldest := &keys[len(keys)-1]; opts.Version == 0 && opts.PublishFor == 0 {
		oldest.NotBefore = time.Time{} // the one that is registered, as far as anybody says
	}
	return keys, nil
}

// notBefore is when a version may begin to sign. The first one is ready: there is
// no other that a server could know.
func notBefore(n int, created time.Time, opts Options) time.Time {
	switch {
	case opts.Version > 0 && n <= opts.Version:
		return time.Time{}
	case opts.Version > 0 || opts.PublishFor == 0:
		return signer.Unscheduled
	case n == 1:
		return created
	default:
		return created.Add(opts.PublishFor)
	}
}

func (k *keyInfo) version(n int, algorithm signer.Algorithm) (signer.Key, time.Time, error) {
	var v versionInfo
	if err := json.Unmarshal(k.Versions[strconv.Itoa(n)], &v); err != nil || v.Created.IsZero() {
		return signer.Key{}, time.Time{}, &smartcred.UnavailableError{Err: errShape}
	}
	public, err := parsePublic(v.PublicKey)
	if err != nil {
		return signer.Key{}, time.Time{}, err
	}
	key := signer.Key{Version: strconv.Itoa(n), Public: public, Custody: k.custody()}
	if key.Algorithm, err = signer.AlgorithmFor(public, algorithm); err != nil {
		return signer.Key{}, time.Time{}, fmt.Errorf("version %d: %w", n, err)
	}
	if key.ID, err = signer.Thumbprint(public); err != nil {
		return signer.Key{}, time.Time{}, fmt.Errorf("version %d: %w", n, err)
	}
	return key, v.Created, nil
}

func parsePublic(text string) (crypto.PublicKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		return nil, &smartcred.UnavailableError{Err: errShape}
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, &smartcred.UnavailableError{Err: errShape}
	}
	return public, nil
}

// custody says what Vault lets out. These settings are the key's, and can only be
// turned from false to true.
func (k *keyInfo) custody() signer.Custody {
	level := signer.CustodyGenerated
	switch {
	case k.Exportable || k.PlaintextBackup:
		level = signer.CustodyExportable
	case k.Imported:
		level = signer.CustodyImported
	}
	return signer.Custody{Level: level, Evidence: fmt.Sprintf(
		"Vault Transit key of type %s: exportable=%t, allow_plaintext_backup=%t, imported_key=%t", k.Type, k.Exportable, k.PlaintextBackup, k.Imported)}
}
