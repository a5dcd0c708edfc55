package signer

import (
	"context"
	"crypto/aes"
	"crypto/des"
	"crypto/fips140"
	"crypto/x509"
	"encoding/asn1"

	"github.com/youmark/pkcs8"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// What a file may ask for in work: about 2 s of SHA-256 for PBKDF2, 64 MiB and
// 16 rounds of it for scrypt. OpenSSL's defaults are far below.
const (
	maxPBKDF2Iterations = 5_000_000
	maxScryptBytes      = 64 << 20
	maxScryptRounds     = 16
)

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}

	// cbcBlockSizes are the ciphers that pkcs8 decrypts with.
	cbcBlockSizes = map[string]int{
		"2.16.840.1.101.3.4.1.2":  aes.BlockSize, // AES-128-CBC
		"2.16.840.1.101.3.4.1.22": aes.BlockSize, // AES-192-CBC
		"2.16.840.1.101.3.4.1.42": aes.BlockSize, // AES-256-CBC
		"1.2.840.113549.3.7":      des.BlockSize, // DES-EDE3-CBC
	}
)

// decryptPKCS8 returns the PrivateKeyInfo of an EncryptedPrivateKeyInfo (RFC
// 5958 section 3, RFC 8018 PBES2), trying one passphrase after the other.
func decryptPKCS8(ctx context.Context, der []byte, pass passphrases) ([]byte, error) {
	if err := checkPBES2(der); err != nil {
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
		plain, err := decryptWith(der, passphrase)
		if err != nil {
			return nil, err
		}
		if plain != nil {
			return plain, nil
		}
	}
	return nil, refused("the passphrase does not decrypt the key")
}

// decryptWith returns nil where the passphrase is the wrong one. The package
// below panics on what FIPS 140 mode refuses.
func decryptWith(der, passphrase []byte) (plain []byte, err error) {
	defer func() {
		if recover() != nil {
			plain, err = nil, refused("the key's encryption can't be undone here")
			if fips140.Enforced() {
				err = refusedByFIPS()
			}
		}
	}()
	key, err := pkcs8.ParsePKCS8PrivateKey(der, passphrase)
	if err != nil {
		return nil, nil
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func refusedByFIPS() error {
	return refused("the key's encryption is one that FIPS 140 mode refuses: a salt under 16 bytes, HMAC-SHA-1 or Triple DES")
}

// checkPBES2 refuses what would make decryption panic or take without end.
func checkPBES2(der []byte) error {
	notPBES2 := malformed("not an EncryptedPrivateKeyInfo by PBES2: openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW makes one")
	input := cryptobyte.String(der)
	var info, algorithm, params, kdf, cipher, data, iv cryptobyte.String
	var scheme, kdfOID, cipherOID asn1.ObjectIdentifier
	if !input.ReadASN1(&info, casn1.SEQUENCE) || !input.Empty() ||
		!info.ReadASN1(&algorithm, casn1.SEQUENCE) || !info.ReadASN1(&data, casn1.OCTET_STRING) || !info.Empty() ||
		!algorithm.ReadASN1ObjectIdentifier(&scheme) || !scheme.Equal(oidPBES2) ||
		!algorithm.ReadASN1(&params, casn1.SEQUENCE) ||
		!params.ReadASN1(&kdf, casn1.SEQUENCE) || !kdf.ReadASN1ObjectIdentifier(&kdfOID) ||
		!params.ReadASN1(&cipher, casn1.SEQUENCE) || !cipher.ReadASN1ObjectIdentifier(&cipherOID) {
		return notPBES2
	}
	blockSize := cbcBlockSizes[cipherOID.String()]
	if blockSize == 0 {
		return unsupported("the key is encrypted with the cipher %s; it takes AES-CBC: openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW", cipherOID)
	}
	if blockSize == des.BlockSize && fips140.Enforced() {
		return refusedByFIPS()
	}
	if !cipher.ReadASN1(&iv, casn1.OCTET_STRING) || len(iv) != blockSize || len(data) == 0 || len(data)%blockSize != 0 {
		return notPBES2
	}
	var values, salt cryptobyte.String
	if !kdf.ReadASN1(&values, casn1.SEQUENCE) || !values.ReadASN1(&salt, casn1.OCTET_STRING) {
		return notPBES2
	}
	switch {
	case kdfOID.Equal(oidPBKDF2):
		var iterations int64
		if !values.ReadASN1Integer(&iterations) || iterations < 1 || iterations > maxPBKDF2Iterations {
			return refused("the encrypted key asks for less than one or more than %d rounds of PBKDF2", maxPBKDF2Iterations)
		}
	case kdfOID.Equal(oidScrypt):
		var n, r, p int64
		if !values.ReadASN1Integer(&n) || !values.ReadASN1Integer(&r) || !values.ReadASN1Integer(&p) ||
			n < 2 || r < 1 || p < 1 || p > maxScryptRounds || n > maxScryptBytes || r > maxScryptBytes/(128*n) {
			return refused("the encrypted key asks for more than %d MiB or %d rounds of scrypt", maxScryptBytes>>20, maxScryptRounds)
		}
	default:
		return unsupported("the key is encrypted with the key derivation %s; it takes PBKDF2 or scrypt", kdfOID)
	}
	return nil
}
