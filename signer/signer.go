package signer

import (
	"context"
	"crypto"
	"time"
)

// A Signer signs with private keys that need never leave the system that keeps
// them.
//
// Implementations MUST be safe for concurrent use, honour ctx, and not cache
// the list: [KeySet] does. An implementation that holds resources also
// implements [io.Closer]; whoever opened it closes it, wrappers forward the
// call, and after it the methods return [smartcred.ErrClosed].
type Signer interface {
	// Keys returns the keys it can sign with, newest first: public halves only.
	// No key at all is [smartcred.ErrNotFound].
	Keys(ctx context.Context) ([]Key, error)

	// Sign returns the JWS signature of signingInput by exactly that key, found
	// by key.Version: RFC 7518 section 3, so raw R‖S for the ES algorithms.
	// [smartcred.ErrNotFound] or [smartcred.ErrDenied]: that key can't sign
	// now, try another. [smartcred.ErrUnavailable]: the backend can't be asked.
	Sign(ctx context.Context, key Key, signingInput []byte) ([]byte, error)
}

// A Key is the public half of a signing key and what its backend says about it.
// It holds nothing secret.
type Key struct {
	// ID is the kid: what the backend has by that name (a JWK's kid member), else
	// the RFC 7638 thumbprint. [KeySetOptions] can replace a single key's.
	ID string
	// Version is the backend's own handle, for finding the key again and for
	// logs. It is no identity: a restored backend may use one twice.
	Version string
	// Algorithm is what this key signs with.
	Algorithm Algorithm
	// Public is the public key: *rsa.PublicKey or *ecdsa.PublicKey. A key's
	// identity is its thumbprint.
	Public crypto.PublicKey
	// NotBefore is when the key may begin to sign. Zero: it is ready.
	// [Unscheduled]: only when named, or once a server refuses the others.
	NotBefore time.Time
	// Custody says where the private half lives and whether it can get out.
	Custody Custody
}

// Check reports why k can't sign by its algorithm, whatever its backend:
// [smartcred.ErrUnsupportedAlgorithm] where the algorithm is empty or unknown, or
// does not fit the public half, see [AlgorithmFor]. Backends that don't look a
// key's algorithm up refuse by it what they were asked to sign.
func (k Key) Check() error {
	if k.Algorithm == "" {
		return unsupported("the key names no algorithm")
	}
	_, err := AlgorithmFor(k.Public, k.Algorithm)
	return err
}

// Unscheduled is the NotBefore of a key that is published but begins to sign at
// no time of its own.
var Unscheduled = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Custody says how well a private key is kept.
type Custody struct {
	Level CustodyLevel
	// Evidence is what the backend reported, in words, for an auditor.
	Evidence string
}

// A CustodyLevel orders custodies from the least to the most that can be said.
type CustodyLevel int

const (
	// CustodyUnknown: the backend does not say.
	CustodyUnknown CustodyLevel = iota
	// CustodyExportable: the private key can leave its backend, or is in this process.
	CustodyExportable
	// CustodyImported: it can't leave its backend now, but was made elsewhere.
	CustodyImported
	// CustodyGenerated: it was made inside its backend and can't leave it.
	CustodyGenerated
)

// String returns "unknown", "exportable", "imported" or "generated inside".
func (l CustodyLevel) String() string {
	switch l {
	case CustodyExportable:
		return "exportable"
	case CustodyImported:
		return "imported"
	case CustodyGenerated:
		return "generated inside"
	default:
		return "unknown"
	}
}

// NonExportable reports whether the backend vouches that the private key can't
// leave it: imported or generated inside.
func (c Custody) NonExportable() bool { return c.Level >= CustodyImported }
