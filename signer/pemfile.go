package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// parsePEM returns the one private key of a PEM file (RFC 7468): PKCS#1, PKCS#8,
// SEC1 or encrypted PKCS#8. Text around the blocks, CRLF, certificates, public
// keys and EC PARAMETERS beside the key are passed over.
func parsePEM(ctx context.Context, data []byte, asked Algorithm, pass passphrases) (localKey, error) {
	var private *pem.Block
	begins, blocks := 0, 0
	for line := range bytes.Lines(data) {
		if bytes.HasPrefix(line, []byte("-----BEGIN ")) {
			begins++
		}
	}
	public := false
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks++
		switch block.Type {
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			if private != nil {
				return localKey{}, refused("the file holds several private keys: put each in a file of its own (path.next, path.previous) or use a JWK Set")
			}
			private = block
		case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE", "PUBLIC KEY", "RSA PUBLIC KEY":
			public = true
		case "EC PARAMETERS":
		default:
			return localKey{}, unsupported("a PEM block of a type that is neither PKCS#1, PKCS#8 nor SEC1: openssl pkey -in FILE -out NEW converts it")
		}
	}
	switch {
	case begins == 0:
		return localKey{}, malformed("neither PEM nor JSON")
	case blocks != begins:
		return localKey{}, malformed("a PEM block is cut off or damaged")
	case private == nil && public:
		return localKey{}, refused("no private key: there is only a certificate or public key in the file")
	case private == nil:
		return localKey{}, refused("no private key in the file")
	case private.Headers["DEK-Info"] != "" || private.Headers["Proc-Type"] != "":
		return localKey{}, refused("encrypted in the old OpenSSL format, which protects poorly: " +
			"openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW converts it")
	}
	der := private.Bytes
	if private.Type == "ENCRYPTED PRIVATE KEY" {
		var err error
		if der, err = decryptPKCS8(ctx, der, pass); err != nil {
			return localKey{}, err
		}
		private.Type = "PRIVATE KEY"
	}
	key, err := parseDER(private.Type, der)
	if err != nil {
		return localKey{}, err
	}
	return newLocalKey(key, asked)
}

func parseDER(blockType string, der []byte) (crypto.Signer, error) {
	switch blockType {
	case "RSA PRIVATE KEY":
		return parsePKCS1(der)
	case "EC PRIVATE KEY":
		if !isOneSequence(der) {
			return nil, malformed("not SEC1 DER")
		}
		key, err := x509.ParseECPrivateKey(der)
		if err != nil {
			return nil, malformed("not a SEC1 elliptic curve key on a known curve")
		}
		return key, nil
	default:
		return parsePKCS8(der)
	}
}

var (
	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidEC  = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
)

// parsePKCS8 parses a PrivateKeyInfo, RFC 5208 section 5.
func parsePKCS8(der []byte) (crypto.Signer, error) {
	input := cryptobyte.String(der)
	var info, algorithm, private cryptobyte.String
	var version int
	var oid asn1.ObjectIdentifier
	if !input.ReadASN1(&info, casn1.SEQUENCE) || !input.Empty() ||
		!info.ReadASN1Integer(&version) ||
		!info.ReadASN1(&algorithm, casn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) ||
		!info.ReadASN1(&private, casn1.OCTET_STRING) {
		return nil, malformed("not PKCS#8 DER")
	}
	switch {
	case oid.Equal(oidRSA):
		return parsePKCS1(private)
	case oid.Equal(oidEC):
		key, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return nil, malformed("not an elliptic curve key on a known curve")
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, unsupported("an elliptic curve key that can't sign")
		}
		return signer, nil
	case oid.Equal(oidPSS):
		return nil, unsupported("a key for RSASSA-PSS only (id-RSASSA-PSS); RS384 takes a plain RSA key")
	default:
		return nil, unsupported("a key of type %s; it takes RSA or an elliptic curve", oid)
	}
}

// parsePKCS1 parses an RSAPrivateKey, RFC 8017 appendix A.1.2. Its numbers are
// measured first: checking a key takes time by the cube of their length.
func parsePKCS1(der []byte) (crypto.Signer, error) {
	input := cryptobyte.String(der)
	var sequence cryptobyte.String
	var version int
	if !input.ReadASN1(&sequence, casn1.SEQUENCE) || !input.Empty() || !sequence.ReadASN1Integer(&version) {
		return nil, malformed("not PKCS#1 DER")
	}
	if version != 0 {
		return nil, unsupported("an RSA key of more than two primes")
	}
	for i := range 8 { // n, e, d, p, q, dp, dq, qi
		n := new(big.Int)
		var raw cryptobyte.String
		if !sequence.ReadASN1(&raw, casn1.INTEGER) {
			return nil, malformed("not PKCS#1 DER")
		}
		if len(raw) > maxRSABits/8+1 {
			return nil, tooLarge()
		}
		if n.SetBytes(raw); i == 0 && n.BitLen() > maxRSABits {
			return nil, tooLarge()
		}
	}
	if !sequence.Empty() {
		return nil, malformed("not PKCS#1 DER")
	}
	key, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		return nil, malformed("the numbers of the RSA key do not belong together")
	}
	return key, nil
}

func tooLarge() error { return unsupported("an RSA key of more than %d bits", maxRSABits) }

func isOneSequence(der []byte) bool {
	input := cryptobyte.String(der)
	return input.SkipASN1(casn1.SEQUENCE) && input.Empty()
}
