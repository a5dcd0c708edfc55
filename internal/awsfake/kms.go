package awsfake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"strings"
	"time"
)

// States of a key, as KeyState has them.
const (
	Enabled         = "Enabled"
	Disabled        = "Disabled"
	PendingDeletion = "PendingDeletion"
	PendingImport   = "PendingImport"
)

// A Key describes a key to make. The zero value is an ECC_NIST_P384 key that
// signs, made in AWS KMS.
type Key struct {
	Spec        string // RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P384, ECC_NIST_P256, SYMMETRIC_DEFAULT
	Usage       string // SIGN_VERIFY, ENCRYPT_DECRYPT
	Origin      string // AWS_KMS, EXTERNAL, AWS_CLOUDHSM
	MultiRegion bool
	Region      string
	Account     string
	Users       []string      // other accounts that may use it
	Private     crypto.Signer // nil: a new one
	Created     time.Time     // zero: now
}

type key struct {
	Key
	id       string
	arn      string
	state    string
	replicas []string // other regions
}

// CreateKey makes a key and returns its ARN.
func (s *Server) CreateKey(k Key) (arn string) {
	setDefault(&k.Spec, "ECC_NIST_P384")
	setDefault(&k.Usage, "SIGN_VERIFY")
	setDefault(&k.Origin, "AWS_KMS")
	setDefault(&k.Region, Region)
	setDefault(&k.Account, Account)
	if k.Created.IsZero() {
		k.Created = s.now()
	}
	if k.Private == nil {
		k.Private = newPrivate(k.Spec)
	}
	made := &key{Key: k, id: newID(), state: Enabled}
	if k.MultiRegion {
		made.id = "mrk-" + strings.ReplaceAll(made.id, "-", "")
	}
	made.arn = keyARN(k.Region, k.Account, made.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[made.id] = made
	return made.arn
}

// ReplicateKey makes a multi-region key be in another region too, and returns
// the replica's ARN: the same key material, id and state.
func (s *Server) ReplicateKey(arn, region string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mustKey(arn)
	if !k.MultiRegion {
		panic("awsfake: replicate key: it is not a multi-region key")
	}
	k.replicas = append(k.replicas, region)
	return keyARN(region, k.Account, k.id)
}

// SetKeyState changes what a key is good for.
func (s *Server) SetKeyState(arn, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustKey(arn).state = state
}

// DeleteKey makes a key be gone for good, with its aliases.
func (s *Server) DeleteKey(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.mustKey(arn).id
	delete(s.keys, id)
	for alias, to := range s.aliases {
		if to == id {
			delete(s.aliases, alias)
		}
	}
}

// SetAlias makes an alias, alias/name, or moves it, and returns its ARN.
func (s *Server) SetAlias(name, arn string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mustKey(arn)
	alias := aliasARN(k.Region, k.Account, name)
	s.aliases[alias] = k.id
	return alias
}

// PrivateKey returns the private half of a key, which AWS never gives.
func (s *Server) PrivateKey(arn string) crypto.Signer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mustKey(arn).Private
}

// LeadingZeros makes the next n ECDSA signatures have an r or s that begins with
// a zero byte, so that it is shorter in DER.
func (s *Server) LeadingZeros(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zeros = n
}

// mustKey finds a key by its ARN; s.mu is held.
func (s *Server) mustKey(arn string) *key {
	k := s.keys[arn[strings.LastIndexByte(arn, '/')+1:]]
	if k == nil {
		panic("awsfake: no key " + arn)
	}
	return k
}

// in reports whether the key is in a region.
func (k *key) in(region string) bool {
	return k.Region == region || slices.Contains(k.replicas, region)
}

func (k *key) ownedOrShared(account string) bool {
	return k.Account == account || slices.Contains(k.Users, account)
}

// algorithms are the SigningAlgorithms of a key, and the hash of each.
func (k *key) algorithms() map[string]crypto.Hash {
	switch {
	case k.Usage != "SIGN_VERIFY":
		return nil
	case strings.HasPrefix(k.Spec, "RSA_"):
		return map[string]crypto.Hash{
			"RSASSA_PKCS1_V1_5_SHA_256": crypto.SHA256, "RSASSA_PKCS1_V1_5_SHA_384": crypto.SHA384, "RSASSA_PKCS1_V1_5_SHA_512": crypto.SHA512,
			"RSASSA_PSS_SHA_256": crypto.SHA256, "RSASSA_PSS_SHA_384": crypto.SHA384, "RSASSA_PSS_SHA_512": crypto.SHA512,
		}
	case k.Spec == "ECC_NIST_P384":
		return map[string]crypto.Hash{"ECDSA_SHA_384": crypto.SHA384}
	case k.Spec == "ECC_NIST_P256":
		return map[string]crypto.Hash{"ECDSA_SHA_256": crypto.SHA256}
	default:
		return nil
	}
}

// signDigest signs as KMS does: ECDSA in DER, PSS with a salt as long as the hash.
func (k *key) signDigest(algorithm string, digest []byte, zeros bool) ([]byte, error) {
	hash := k.algorithms()[algorithm]
	var opts crypto.SignerOpts = hash
	if strings.HasPrefix(algorithm, "RSASSA_PSS") {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	for {
		sig, err := k.Private.Sign(rand.Reader, digest, opts)
		if err != nil || !zeros || !strings.HasPrefix(algorithm, "ECDSA") || hasLeadingZero(sig, k.Private.Public().(*ecdsa.PublicKey).Curve) {
			return sig, err
		}
	}
}

// hasLeadingZero looks at the lengths in SEQUENCE { INTEGER r, INTEGER s }, all
// short forms: a byte less than the curve's size begins with a zero.
func hasLeadingZero(der []byte, curve elliptic.Curve) bool {
	size := (curve.Params().BitSize + 7) / 8
	r := int(der[3])
	s := int(der[3+r+2])
	return r < size || s < size
}

func (k *key) spki() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.Private.Public())
	if err != nil {
		panic("awsfake: encode public key: " + err.Error())
	}
	return der
}

func newPrivate(spec string) crypto.Signer {
	var private crypto.Signer
	var err error
	switch spec {
	case "RSA_2048":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "RSA_3072":
		private, err = rsa.GenerateKey(rand.Reader, 3072)
	case "RSA_4096":
		private, err = rsa.GenerateKey(rand.Reader, 4096)
	case "ECC_NIST_P384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECC_NIST_P256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "SYMMETRIC_DEFAULT":
		return nil
	default:
		panic("awsfake: no key spec " + spec)
	}
	if err != nil {
		panic("awsfake: make key: " + err.Error())
	}
	return private
}

func keyARN(region, account, id string) string {
	return "arn:aws:kms:" + region + ":" + account + ":key/" + id
}

func aliasARN(region, account, name string) string {
	return "arn:aws:kms:" + region + ":" + account + ":" + name
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}
