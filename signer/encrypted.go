package signer

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"hash"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/scrypt"
)

// What a file may ask for in work: a few seconds of PBKDF2; for scrypt 64 MiB, and
// 64 KiB beside them for its p blocks. OpenSSL's defaults are far below.
const (
	maxPBKDF2Iterations = 5_000_000
	maxScryptBytes      = 64 << 20 // 128·r·N
	maxScryptBlock      = 32       // r
	maxScryptRounds     = 16       // p
)

const minFIPSSalt = 16 // bytes, SP 800-132

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
)

// A cbc is a block cipher to use in CBC mode.
type cbc struct {
	keySize, blockSize int
	open               func(key []byte) (cipher.Block, error)
}

var ciphers = map[string]cbc{
	"2.16.840.1.101.3.4.1.2":  {16, aes.BlockSize, aes.NewCipher},
	"2.16.840.1.101.3.4.1.22": {24, aes.BlockSize, aes.NewCipher},
	"2.16.840.1.101.3.4.1.42": {32, aes.BlockSize, aes.NewCipher},
	"1.2.840.113549.3.7":      {24, des.BlockSize, des.NewTripleDESCipher},
}

const oidHMACSHA1 = "1.2.840.113549.2.7"

// prfs are the functions of PBKDF2.
var prfs = map[string]func() hash.Hash{
	oidHMACSHA1:           sha1.New,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
}

// A pbes2 is an EncryptedPrivateKeyInfo (RFC 5958 section 3) by PBES2 (RFC 8018
// section 6.2), whose demands are within bounds.
type pbes2 struct {
	cipher cbc
	iv     []byte
	data   []byte
	derive func(passphrase []byte) ([]byte, error)
}

// decryptPKCS8 returns the PrivateKeyInfo of an EncryptedPrivateKeyInfo, trying
// one passphrase after the other. What it returns is one ASN.1 sequence, and
// otherwise as its owner wrote it.
func decryptPKCS8(ctx context.Context, der []byte, pass passphrases) ([]byte, error) {
	encrypted, err := parsePBES2(der)
	if err != nil {
		return nil, err
	}
	tries, err := pass(ctx)
	if err != nil {
		return nil, err
	}
	if len(tries) == 0 {
		return nil, refused("the key is encrypted and there is no passphrase: name its source with passphrase-source=, percent-encoded")
	}
	for _, passphrase := range tries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		plain, err := encrypted.decrypt(passphrase)
		if err != nil {
			return nil, err
		}
		if plain != nil {
			return plain, nil
		}
	}
	return nil, refused("the passphrase does not decrypt the key")
}

// decrypt returns nil where the passphrase is the wrong one: then the padding (RFC
// 8018 section 6.1.1) is wrong or, once in 256, what it pads is no sequence.
func (e *pbes2) decrypt(passphrase []byte) ([]byte, error) {
	var block cipher.Block
	key, err := e.derive(passphrase)
	if err == nil {
		block, err = e.cipher.open(key)
	}
	if err != nil {
		return nil, refused("the key's encryption can't be undone here")
	}
	plain := make([]byte, len(e.data))
	cipher.NewCBCDecrypter(block, e.iv).CryptBlocks(plain, e.data)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > e.cipher.blockSize {
		return nil, nil
	}
	plain, pad := plain[:len(plain)-padding], plain[len(plain)-padding:]
	for _, b := range pad {
		if int(b) != padding {
			return nil, nil
		}
	}
	if !isOneSequence(plain) {
		return nil, nil
	}
	return plain, nil
}

func refusedByFIPS() error {
	return refused("the key's encryption is one that FIPS 140 mode refuses: a salt under 16 bytes, HMAC-SHA-1 or Triple DES")
}

// parsePBES2 refuses what would take without end.
func parsePBES2(der []byte) (*pbes2, error) {
	notPBES2 := malformed("not an EncryptedPrivateKeyInfo by PBES2: openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW makes one")
	input := cryptobyte.String(der)
	var info, algorithm, params, kdf, scheme, data, iv, values cryptobyte.String
	var oid, kdfOID, cipherOID asn1.ObjectIdentifier
	if !input.ReadASN1(&info, casn1.SEQUENCE) || !input.Empty() ||
		!info.ReadASN1(&algorithm, casn1.SEQUENCE) || !info.ReadASN1(&data, casn1.OCTET_STRING) || !info.Empty() ||
		!algorithm.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidPBES2) ||
		!algorithm.ReadASN1(&params, casn1.SEQUENCE) ||
		!params.ReadASN1(&kdf, casn1.SEQUENCE) || !kdf.ReadASN1ObjectIdentifier(&kdfOID) ||
		!params.ReadASN1(&scheme, casn1.SEQUENCE) || !scheme.ReadASN1ObjectIdentifier(&cipherOID) {
		return nil, notPBES2
	}
	c, ok := ciphers[cipherOID.String()]
	if !ok {
		return nil, unsupported("the key is encrypted with the cipher %s; it takes AES-CBC: openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW", cipherOID)
	}
	if c.blockSize == des.BlockSize && fips140.Enforced() {
		return nil, refusedByFIPS()
	}
	if !scheme.ReadASN1(&iv, casn1.OCTET_STRING) || len(iv) != c.blockSize || len(data) == 0 || len(data)%c.blockSize != 0 ||
		!kdf.ReadASN1(&values, casn1.SEQUENCE) {
		return nil, notPBES2
	}
	e := &pbes2{cipher: c, iv: iv, data: data}
	var err error
	switch {
	case kdfOID.Equal(oidPBKDF2):
		e.derive, err = parsePBKDF2(values, c.keySize)
	case kdfOID.Equal(oidScrypt):
		e.derive, err = parseScrypt(values, c.keySize)
	default:
		err = unsupported("the key is encrypted with the key derivation %s; it takes PBKDF2 or scrypt", kdfOID)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// parsePBKDF2 reads PBKDF2-params, RFC 8018 appendix A.2.
func parsePBKDF2(values cryptobyte.String, keySize int) (func([]byte) ([]byte, error), error) {
	var salt cryptobyte.String
	var iterations int
	if !values.ReadASN1(&salt, casn1.OCTET_STRING) || !values.ReadASN1Integer(&iterations) || !readKeyLength(&values, keySize) {
		return nil, malformed("not the parameters of PBKDF2")
	}
	if iterations < 1 || iterations > maxPBKDF2Iterations {
		return nil, refused("the encrypted key asks for less than one or more than %d rounds of PBKDF2", maxPBKDF2Iterations)
	}
	prf := oidHMACSHA1
	if !values.Empty() {
		var algorithm cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !values.ReadASN1(&algorithm, casn1.SEQUENCE) || !values.Empty() || !algorithm.ReadASN1ObjectIdentifier(&oid) {
			return nil, malformed("not the parameters of PBKDF2")
		}
		prf = oid.String()
	}
	newHash := prfs[prf]
	switch {
	case newHash == nil:
		return nil, unsupported("the key is encrypted with PBKDF2 over the function %s; it takes HMAC with SHA-256, SHA-384, SHA-512 or SHA-1", prf)
	case fips140.Enforced() && (prf == oidHMACSHA1 || len(salt) < minFIPSSalt):
		return nil, refusedByFIPS()
	}
	return func(passphrase []byte) ([]byte, error) {
		return pbkdf2.Key(newHash, string(passphrase), salt, iterations, keySize)
	}, nil
}

// parseScrypt reads scrypt-params, RFC 7914 section 7.1.
func parseScrypt(values cryptobyte.String, keySize int) (func([]byte) ([]byte, error), error) {
	var salt cryptobyte.String
	var n, r, p int64
	if !values.ReadASN1(&salt, casn1.OCTET_STRING) ||
		!values.ReadASN1Integer(&n) || !values.ReadASN1Integer(&r) || !values.ReadASN1Integer(&p) ||
		!readKeyLength(&values, keySize) || !values.Empty() {
		return nil, malformed("not the parameters of scrypt")
	}
	if n < 2 || n&(n-1) != 0 || r < 1 || r > maxScryptBlock || p < 1 || p > maxScryptRounds || n > maxScryptBytes/(128*r) {
		return nil, refused("the encrypted key asks for a scrypt that is not one or is too large: N is a power of 2, r at most %d, p at most %d, 128·r·N at most %d MiB",
			maxScryptBlock, maxScryptRounds, maxScryptBytes>>20)
	}
	if fips140.Enforced() && len(salt) < minFIPSSalt {
		return nil, refusedByFIPS()
	}
	return func(passphrase []byte) ([]byte, error) {
		return scrypt.Key(passphrase, salt, int(n), int(r), int(p), keySize)
	}, nil
}

// readKeyLength reads the optional length of the derived key, which must be the
// cipher's.
func readKeyLength(values *cryptobyte.String, keySize int) bool {
	if !values.PeekASN1Tag(casn1.INTEGER) {
		return true
	}
	var length int
	return values.ReadASN1Integer(&length) && length == keySize
}
