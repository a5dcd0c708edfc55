package wire

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/smartcred/smartcred/internal/strictjson"
	"github.com/smartcred/smartcred/signer"
)

// A Key is a key as a program lists it.
type Key struct {
	Version   string
	ID        string // kid; empty: none of its own
	Algorithm string // empty: as the key is
	Public    crypto.PublicKey
	NotBefore time.Time
	Custody   signer.Custody
}

// Keys reads the answer to keys.
func (a *Answer) Keys() ([]Key, error) {
	elements, state := a.obj.Array("keys")
	if state != strictjson.Present {
		return nil, violation("no keys: an array")
	}
	if len(elements) > MaxKeys {
		return nil, violation(fmt.Sprintf("more than %d keys", MaxKeys))
	}
	keys := make([]Key, 0, len(elements))
	seen := map[string]bool{}
	for i, raw := range elements {
		o, err := strictjson.Object(raw)
		if err != nil || len(o.Duplicates) > 0 {
			return nil, violation("a key that is no JSON object, or has a member twice")
		}
		k, err := (&Answer{obj: o}).key()
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if seen[k.Version] {
			return nil, violation("two keys of one version")
		}
		seen[k.Version] = true
		keys = append(keys, k)
	}
	return keys, nil
}

// levels are the custodies by their names in the protocol.
var levels = map[string]signer.CustodyLevel{
	"": signer.CustodyUnknown, "unknown": signer.CustodyUnknown, "exportable": signer.CustodyExportable,
	"imported": signer.CustodyImported, "generated": signer.CustodyGenerated,
}

func (a *Answer) key() (k Key, err error) {
	for _, m := range []struct {
		to   *string
		name string
		most int
	}{{&k.ID, "id", MaxName}, {&k.Algorithm, "algorithm", MaxName}, {&k.Custody.Evidence, "evidence", MaxEvidence}} {
		if *m.to, err = a.optionalText(m.name, m.most); err != nil {
			return k, err
		}
	}
	if k.Version, err = a.text("version", MaxName); err != nil {
		return k, err
	}
	text, _ := a.obj.String("public_key")
	if k.Public, err = publicKey(text); err != nil {
		return k, err
	}
	custody, err := a.optionalText("custody", MaxName)
	if err != nil {
		return k, err
	}
	level, ok := levels[custody]
	if !ok {
		return k, violation("a custody that is none of unknown, exportable, imported, generated")
	}
	k.Custody.Level = level
	if k.NotBefore, err = a.time("not_before"); err != nil {
		return k, err
	}
	staged, state := a.obj.Bool("staged")
	switch {
	case state == strictjson.Null || state == strictjson.WrongType:
		return k, violation("a staged that is neither true nor false")
	case staged:
		k.NotBefore = signer.Unscheduled
	}
	return k, nil
}

// publicKey reads a SubjectPublicKeyInfo in PEM, and nothing beside it.
func publicKey(text string) (crypto.PublicKey, error) {
	if text == "" || len(text) > MaxPublicKey {
		return nil, violation("no public_key, or one of more than 8 KiB")
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, violation("a public_key that is not one PEM block -----BEGIN PUBLIC KEY-----")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, violation("a public_key that is no SubjectPublicKeyInfo")
	}
	return pub, nil
}

// KeyMembers returns key as a program lists it.
func KeyMembers(key signer.Key) (map[string]any, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	members := map[string]any{
		"version":    key.Version,
		"algorithm":  string(key.Algorithm),
		"public_key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	}
	for name, value := range map[string]string{"id": key.ID, "evidence": key.Custody.Evidence} {
		if value != "" {
			members[name] = value
		}
	}
	for name, level := range levels {
		if name != "" && level == key.Custody.Level {
			members["custody"] = name
		}
	}
	switch {
	case key.NotBefore.Equal(signer.Unscheduled):
		members["staged"] = true
	case !key.NotBefore.IsZero():
		members["not_before"] = key.NotBefore.UTC().Format(time.RFC3339)
	}
	return members, nil
}
