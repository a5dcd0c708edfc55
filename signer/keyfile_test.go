package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/youmark/pkcs8"

	"github.com/smartcred/smartcred"
)

func TestKeyFileVectors(t *testing.T) {
	type vector struct {
		File, Result, Key, Alg, Kid, Note string
		Keys, Kids                        []string
	}
	for _, v := range readJSON[[]vector](t, "keys/expected.json") {
		t.Run(v.File, func(t *testing.T) {
			keys, _, err := parseKeyFile(t.Context(), keyData(t, v.File), "", noPassphrase)
			if v.Result == "error" {
				if err == nil {
					t.Fatalf("accepted: %s", v.Note)
				}
				if !errors.Is(err, smartcred.ErrInvalidConfig) && !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
					t.Errorf("error %v is neither ErrInvalidConfig nor ErrUnsupportedAlgorithm", err)
				}
				unsupported := strings.Contains(v.Note, "unsupported") || strings.Contains(v.Note, "too_small") || strings.Contains(v.Note, "alg_mismatch")
				if errors.Is(err, smartcred.ErrUnsupportedAlgorithm) != unsupported {
					t.Errorf("error %v for %s", err, v.Note)
				}
				return
			}
			if err != nil { // the policy files too: their usable keys are taken
				t.Fatal(err)
			}
			want := v.Kids
			if v.Kid != "" {
				want = []string{v.Kid}
			}
			var got []string
			for _, k := range keys {
				got = append(got, k.key.ID)
				if v.Alg != "" && string(k.key.Algorithm) != v.Alg {
					t.Errorf("algorithm %s, want %s", k.key.Algorithm, v.Alg)
				}
				sig, err := signLocally(k.private(), k.key, []byte("input"))
				if err != nil {
					t.Fatal(err)
				}
				if err := Verify(k.key, []byte("input"), sig); err != nil {
					t.Error(err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("kids (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeySetFileLeavesOut(t *testing.T) {
	for file, want := range map[string]int{"private_with_unsupported.jwks.json": 3, "private_with_public_only.jwks.json": 1, "private_rsa_ec.jwks.json": 0} {
		t.Run(file, func(t *testing.T) {
			_, leftOut, err := parseKeyFile(t.Context(), keyData(t, file), "", noPassphrase)
			if err != nil {
				t.Fatal(err)
			}
			if len(leftOut) != want {
				t.Errorf("left out %v, want %d", leftOut, want)
			}
		})
	}
}

// The vectors' encrypted files have 8 bytes of salt, which PBKDF2 in FIPS
// 140-only mode refuses.
func TestEncryptedKeyVectors(t *testing.T) {
	for _, name := range []string{"rsa2048", "p384"} {
		t.Run(name, func(t *testing.T) {
			data := keyData(t, name+".encrypted.pem")
			keys, _, err := parseKeyFile(t.Context(), data, "", withPassphrase("wrong", testPassphrase))
			if fips140.Enforced() {
				if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "FIPS 140") {
					t.Fatalf("error %v, want one that names FIPS 140", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !samePublic(keys[0].key.Public, testKey(t, name).Public()) {
				t.Error("another key")
			}
			_, _, err = parseKeyFile(t.Context(), data, "", withPassphrase("wrong", ""))
			if !errors.Is(err, smartcred.ErrInvalidConfig) || strings.Contains(err.Error(), "wrong\"") {
				t.Errorf("wrong passphrase: %v", err)
			}
		})
	}
}

// Encryption as FIPS 140 allows it works in every mode, the rest in the others.
func TestEncryptedKeyForFIPS(t *testing.T) {
	const passphrase, short = "a passphrase of some length", "13 characters"
	for name, tt := range map[string]struct {
		passphrase string
		cipher     pkcs8.Cipher
		kdf        pkcs8.PBKDF2Opts
		refused    bool // in FIPS 140-only mode
	}{
		"AES-256-CBC, SHA-256": {passphrase, pkcs8.AES256CBC, pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 2048, HMACHash: crypto.SHA256}, false},
		"AES-128-CBC, SHA-256": {passphrase, pkcs8.AES128CBC, pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 2048, HMACHash: crypto.SHA256}, false},
		"short passphrase":     {short, pkcs8.AES256CBC, pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 2048, HMACHash: crypto.SHA256}, false},
		"salt of 8 bytes":      {passphrase, pkcs8.AES256CBC, pkcs8.PBKDF2Opts{SaltSize: 8, IterationCount: 2048, HMACHash: crypto.SHA256}, true},
		"HMAC-SHA-1":           {passphrase, pkcs8.AES256CBC, pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 2048, HMACHash: crypto.SHA1}, true},
		"Triple DES":           {passphrase, pkcs8.TripleDESCBC, pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 2048, HMACHash: crypto.SHA256}, true},
	} {
		t.Run(name, func(t *testing.T) {
			want := testKey(t, "p384")
			var der []byte
			var err error
			fips140.WithoutEnforcement(func() {
				der, err = pkcs8.MarshalPrivateKey(want, []byte(tt.passphrase), &pkcs8.Opts{Cipher: tt.cipher, KDFOpts: tt.kdf})
			})
			if err != nil {
				t.Fatal(err)
			}
			data := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})
			keys, _, err := parseKeyFile(t.Context(), data, "", withPassphrase(tt.passphrase))
			if tt.refused && fips140.Enforced() {
				if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "FIPS 140") {
					t.Errorf("error %v, want one that names FIPS 140", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !samePublic(keys[0].key.Public, want.Public()) {
				t.Error("another key")
			}
		})
	}
}

func encryptedPEM(t testing.TB, passphrase string, salt, iterations int) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := pkcs8.MarshalPrivateKey(key, []byte(passphrase), &pkcs8.Opts{
		Cipher:  pkcs8.AES256CBC,
		KDFOpts: pkcs8.PBKDF2Opts{SaltSize: salt, IterationCount: iterations, HMACHash: crypto.SHA256},
	})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})
}

func TestPBES2Bounds(t *testing.T) {
	const passphrase = "a passphrase of some length"
	aes := func(kdf pkcs8.KDFOpts) *pkcs8.Opts { return &pkcs8.Opts{Cipher: pkcs8.AES128CBC, KDFOpts: kdf} }
	pbkdf2 := pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 1000, HMACHash: crypto.SHA256}
	scrypt := pkcs8.ScryptOpts{SaltSize: 16, CostParameter: 2, BlockSize: 8, ParallelizationParameter: 1}
	// What is refused is refused before any work: only the parameters are rewritten.
	patch := func(old, new []byte) func([]byte) []byte {
		return func(der []byte) []byte {
			if len(old) != len(new) || !bytes.Contains(der, old) {
				t.Fatalf("no % x in the DER", old)
			}
			return bytes.Replace(der, old, new, 1)
		}
	}
	for name, tt := range map[string]struct {
		opts  *pkcs8.Opts
		patch func([]byte) []byte
		want  error
	}{
		"PBKDF2":    {opts: aes(pbkdf2)},
		"scrypt":    {opts: aes(scrypt)},
		"no rounds": {aes(pbkdf2), patch([]byte{2, 2, 0x03, 0xe8}, []byte{2, 2, 0, 0}), smartcred.ErrInvalidConfig},
		"too many rounds": {
			aes(pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 0x011170, HMACHash: crypto.SHA256}),
			patch([]byte{2, 3, 0x01, 0x11, 0x70}, []byte{2, 3, 0x7f, 0xff, 0xff}), smartcred.ErrInvalidConfig,
		},
		"scrypt N of 1":   {aes(scrypt), patch([]byte{2, 1, 2, 2, 1, 8, 2, 1, 1}, []byte{2, 1, 1, 2, 1, 8, 2, 1, 1}), smartcred.ErrInvalidConfig},
		"scrypt p of 17":  {aes(scrypt), patch([]byte{2, 1, 2, 2, 1, 8, 2, 1, 1}, []byte{2, 1, 2, 2, 1, 8, 2, 1, 17}), smartcred.ErrInvalidConfig},
		"GCM":             {&pkcs8.Opts{Cipher: pkcs8.AES128GCM, KDFOpts: pbkdf2}, nil, smartcred.ErrUnsupportedAlgorithm},
		"unknown KDF":     {aes(pbkdf2), patch([]byte{0xf7, 0x0d, 1, 5, 0x0c}, []byte{0xf7, 0x0d, 1, 5, 0x7c}), smartcred.ErrUnsupportedAlgorithm},
		"PBES1":           {aes(pbkdf2), patch([]byte{0xf7, 0x0d, 1, 5, 0x0d}, []byte{0xf7, 0x0d, 1, 5, 0x03}), smartcred.ErrInvalidConfig},
		"block cut short": {aes(pbkdf2), func(der []byte) []byte { return der[:len(der)-1] }, smartcred.ErrInvalidConfig},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := pkcs8.MarshalPrivateKey(testKey(t, "p384"), []byte(passphrase), tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if tt.patch != nil {
				der = tt.patch(der)
			}
			if _, err := parsePBES2(der); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

type scryptParams struct {
	Salt    []byte
	N, R, P int
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

// encryptedInfo is an EncryptedPrivateKeyInfo by AES-256-CBC of data, which is
// taken as it is.
func encryptedInfo(t testing.TB, kdf asn1.ObjectIdentifier, params any, iv, data []byte) []byte {
	t.Helper()
	marshal := func(value any) asn1.RawValue {
		der, err := asn1.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return asn1.RawValue{FullBytes: der}
	}
	type algorithm struct {
		OID    asn1.ObjectIdentifier
		Params asn1.RawValue
	}
	return marshal(struct {
		Algorithm algorithm
		Data      []byte
	}{algorithm{oidPBES2, marshal(struct{ KDF, Cipher algorithm }{
		algorithm{kdf, marshal(params)},
		algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, marshal(iv)},
	})}, data}).FullBytes
}

func TestKeyDerivationBounds(t *testing.T) {
	salt := make([]byte, 16)
	prf := func(arc int) pkix.AlgorithmIdentifier {
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, arc}}
	}
	for name, tt := range map[string]struct {
		kdf    asn1.ObjectIdentifier
		params any
		want   error
	}{
		"scrypt, OpenSSL's default": {oidScrypt, scryptParams{salt, 1 << 14, 8, 1}, nil},
		"scrypt, 64 MiB":            {oidScrypt, scryptParams{salt, 1 << 16, 8, 16}, nil},
		"scrypt, 64 MiB, r of 32":   {oidScrypt, scryptParams{salt, 1 << 14, 32, 1}, nil},
		"scrypt, 128 MiB":           {oidScrypt, scryptParams{salt, 1 << 17, 8, 1}, smartcred.ErrInvalidConfig},
		"scrypt, r of 33":           {oidScrypt, scryptParams{salt, 2, 33, 1}, smartcred.ErrInvalidConfig},
		"scrypt, 640 MiB by r":      {oidScrypt, scryptParams{salt, 2, 262144, 16}, smartcred.ErrInvalidConfig},
		"scrypt, p of 17":           {oidScrypt, scryptParams{salt, 2, 1, 17}, smartcred.ErrInvalidConfig},
		"scrypt, p of 0":            {oidScrypt, scryptParams{salt, 2, 1, 0}, smartcred.ErrInvalidConfig},
		"scrypt, N of 3":            {oidScrypt, scryptParams{salt, 3, 1, 1}, smartcred.ErrInvalidConfig},
		"scrypt, N that overflows":  {oidScrypt, scryptParams{salt, 1 << 62, 32, 1}, smartcred.ErrInvalidConfig},
		"scrypt, less than nothing": {oidScrypt, scryptParams{salt, 2, -8, 1}, smartcred.ErrInvalidConfig},
		"PBKDF2, the most":          {oidPBKDF2, pbkdf2Params{salt, maxPBKDF2Iterations, 0, prf(9)}, nil},
		"PBKDF2, one more":          {oidPBKDF2, pbkdf2Params{salt, maxPBKDF2Iterations + 1, 0, prf(9)}, smartcred.ErrInvalidConfig},
		"PBKDF2, key length":        {oidPBKDF2, pbkdf2Params{salt, 1000, 32, prf(9)}, nil},
		"PBKDF2, other key length":  {oidPBKDF2, pbkdf2Params{salt, 1000, 16, prf(9)}, smartcred.ErrInvalidConfig},
		"PBKDF2, unknown function":  {oidPBKDF2, pbkdf2Params{salt, 1000, 0, prf(99)}, smartcred.ErrUnsupportedAlgorithm},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parsePBES2(encryptedInfo(t, tt.kdf, tt.params, salt, salt)); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// Files that OpenSSL wrote: -scrypt, and -v2prf hmacWithSHA512.
func TestEncryptedKeysOfOpenSSL(t *testing.T) {
	want := testKey(t, "p384").Public()
	for _, name := range []string{"p384.scrypt.encrypted.pem", "p384.sha512.encrypted.pem"} {
		t.Run(name, func(t *testing.T) {
			keys, _, err := parseKeyFile(t.Context(), keyData(t, name), "", withPassphrase("wrong", testPassphrase))
			if fips140.Enforced() {
				if err == nil || !strings.Contains(err.Error(), "FIPS 140") {
					t.Errorf("error %v, want one that names FIPS 140", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !samePublic(keys[0].key.Public, want) {
				t.Error("another key")
			}
		})
	}
}

// What was decrypted is judged as any other key is: the passphrase is not to
// blame for what it holds, and is where it does not decrypt.
func TestEncryptedKeyThatIsNone(t *testing.T) {
	const passphrase = "a passphrase of some length"
	iv := make([]byte, 16)
	kdf := pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 1000, HMACHash: crypto.SHA256}
	key, params, err := kdf.DeriveKey([]byte(passphrase), iv, 32)
	if err != nil {
		t.Fatal(err)
	}
	marshal := func(value any) []byte {
		der, err := asn1.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	type info struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	huge := new(big.Int).Lsh(big.NewInt(1), 1<<17) // x509 would work on it for minutes
	huge.SetBit(huge, 0, 1)
	type rsaKey struct {
		Version                   int
		N, E, D, P, Q, DP, DQ, QI *big.Int
	}
	_, ed25519Key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, err := x509.MarshalPKCS8PrivateKey(ed25519Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		plain []byte
		want  error
		says  string
	}{
		"RSA of 131073 bits": {
			marshal(info{0, pkix.AlgorithmIdentifier{Algorithm: oidRSA}, marshal(rsaKey{0, huge, big.NewInt(3), huge, huge, huge, huge, huge, huge})}),
			smartcred.ErrUnsupportedAlgorithm, "8192 bits",
		},
		"Ed25519":         {edwards, smartcred.ErrUnsupportedAlgorithm, "1.3.101.112"},
		"damaged EC key":  {marshal(info{0, pkix.AlgorithmIdentifier{Algorithm: oidEC}, []byte("x")}), smartcred.ErrInvalidConfig, "elliptic curve"},
		"another message": {marshal(struct{ A int }{1}), smartcred.ErrInvalidConfig, "PKCS#8"},
		"no sequence":     {[]byte("plain text"), smartcred.ErrInvalidConfig, "passphrase does not decrypt"},
		"nothing":         {nil, smartcred.ErrInvalidConfig, "passphrase does not decrypt"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := pkcs8.AES256CBC.Encrypt(key, iv, tt.plain)
			if err != nil {
				t.Fatal(err)
			}
			der := encryptedInfo(t, oidPBKDF2, params, iv, data)
			_, _, err = parseKeyFile(t.Context(), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), "", withPassphrase(passphrase))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
}

// Padding that is right by chance under a wrong passphrase does not keep the next
// one from being tried.
func TestWrongPassphraseNeverCounts(t *testing.T) {
	const right = "a passphrase of some length"
	block, _ := pem.Decode(encryptedPEM(t, right, 16, 1))
	for i := range 2000 { // 1 in 256 has the right padding
		if _, err := decryptPKCS8(t.Context(), block.Bytes, withPassphrase(fmt.Sprint("wrong passphrase ", i), right)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEncryptedKeyWantsPassphrase(t *testing.T) {
	data := encryptedPEM(t, "a passphrase of some length", 16, 2048)
	_, _, err := parseKeyFile(t.Context(), data, "", noPassphrase)
	if err == nil || !strings.Contains(err.Error(), "passphrase-source") {
		t.Errorf("error %v does not name passphrase-source", err)
	}
	down := &smartcred.UnavailableError{Err: errors.New("no route")}
	_, _, err = parseKeyFile(t.Context(), data, "", func(context.Context) ([][]byte, error) { return nil, down })
	if !errors.Is(err, smartcred.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
	_, _, err = parseKeyFile(t.Context(), keyData(t, "rsa2048.pkcs1.encrypted.pem"), "", withPassphrase(testPassphrase))
	if err == nil || !strings.Contains(err.Error(), "openssl pkcs8 -topk8") {
		t.Errorf("error %v does not say how to convert", err)
	}
}

func TestMalformedJWK(t *testing.T) {
	good := string(keyData(t, "p384.minimal.private.jwk.json"))
	rsaKey := string(keyData(t, "rsa2048.private.jwk.json"))
	replace := func(s, old, new string) string {
		t.Helper()
		if !strings.Contains(s, old) {
			t.Fatalf("no %s in the JWK", old)
		}
		return strings.Replace(s, old, new, 1)
	}
	for name, data := range map[string]string{
		"member twice":         replace(good, `{`, `{"kty":"EC",`),
		"other case":           replace(good, `"kty"`, `"KTY"`),
		"kty null":             replace(good, `"EC"`, `null`),
		"kty number":           replace(good, `"EC"`, `1`),
		"more after":           good + `{}`,
		"brace after":          good + `}`,
		"cut":                  good[:len(good)-10],
		"padded base64":        replace(good, `"d": "`, `"d": "=`),
		"standard base64":      strings.NewReplacer("-", "+", "_", "/").Replace(good),
		"empty kid":            replace(good, `{`, `{"kid":"",`),
		"key_ops not a list":   replace(good, `{`, `{"key_ops":"sign",`),
		"key_ops verify only":  replace(good, `{`, `{"key_ops":["verify"],`),
		"keys not a list":      `{"keys":{}}`,
		"key not an object":    `{"keys":[1]}`,
		"null":                 `{"keys":[null]}`,
		"rsa without n":        replace(rsaKey, `"n"`, `"m"`),
		"rsa with p only":      replace(rsaKey, `"q"`, `"r"`),
		"rsa with oth":         replace(rsaKey, `{`, `{"oth":[],`),
		"rsa d of another key": replace(rsaKey, `"d": "`, `"d": "A"`),
		"rsa e even":           replace(rsaKey, `"AQAB"`, `"AQAA"`),
		"rsa n zero first":     replace(rsaKey, `"n": "`, `"n": "AAAA`),
		"rsa e large":          replace(rsaKey, `"AQAB"`, `"AQABAQABAQAB"`),
		"rsa n huge":           replace(rsaKey, `"n": "`, `"n": "`+strings.Repeat("xxxx", 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			keys, _, err := parseKeyFile(t.Context(), []byte(data), "", noPassphrase)
			if err == nil {
				t.Fatalf("accepted: %v", keys)
			}
			if !errors.Is(err, smartcred.ErrInvalidConfig) && !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
				t.Errorf("error %v is of no class", err)
			}
		})
	}
}

func TestMalformedPEM(t *testing.T) {
	good := string(keyData(t, "p384.pem"))
	block, _ := pem.Decode([]byte(good))
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	pkcs1, _ := pem.Decode(keyData(t, "rsa2048.pkcs1.pem"))
	for name, data := range map[string]string{
		"a damaged block before": strings.Replace(good, "-----END PRIVATE KEY-----", "", 1) + good,
		"bytes after the DER":    encode("PRIVATE KEY", append(bytes.Clone(block.Bytes), 0)),
		"PKCS#8 as PKCS#1":       encode("RSA PRIVATE KEY", block.Bytes),
		"PKCS#8 as SEC1":         encode("EC PRIVATE KEY", block.Bytes),
		"PKCS#1 as PKCS#8":       encode("PRIVATE KEY", pkcs1.Bytes),
		"bytes after the PKCS#1": encode("RSA PRIVATE KEY", append(bytes.Clone(pkcs1.Bytes), 0)),
		"OpenSSH":                encode("OPENSSH PRIVATE KEY", block.Bytes),
		"encrypted and not":      encode("ENCRYPTED PRIVATE KEY", block.Bytes),
		"huge modulus":           encode("RSA PRIVATE KEY", hugePKCS1()),
		"a number changed":       encode("RSA PRIVATE KEY", flip(pkcs1.Bytes, len(pkcs1.Bytes)/2)),
		"parameters but no key":  "-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parseKeyFile(t.Context(), []byte(data), "", withPassphrase(testPassphrase))
			if !errors.Is(err, smartcred.ErrInvalidConfig) && !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

// hugePKCS1 is an RSAPrivateKey with numbers of 400,000 bits.
func hugePKCS1() []byte {
	number := append([]byte{0x02, 0x83, 0, 0xc3, 0x50}, bytes.Repeat([]byte{0x7f}, 50_000)...)
	body := append([]byte{0x02, 0x01, 0x00}, bytes.Repeat(number, 8)...)
	return append([]byte{0x30, 0x83, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

func TestAlgorithmFor(t *testing.T) {
	for _, tt := range []struct {
		key         string
		asked, want Algorithm // want empty: ErrUnsupportedAlgorithm
	}{
		{"rsa2048", "", RS384}, {"rsa2048", RS384, RS384}, {"rsa2048", RS256, RS256}, {"rsa2048", RS512, RS512}, {"rsa2048", PS384, PS384},
		{"rsa2048", ES384, ""}, {"rsa2048", "HS256", ""}, {"rsa2048", "none", ""},
		{"p384", "", ES384}, {"p384", ES384, ES384}, {"p384", ES256, ""}, {"p384", RS384, ""},
		{"p256", ES256, ES256}, {"p256", "", ""}, {"p256", ES384, ""},
	} {
		t.Run(fmt.Sprintf("%s %s", tt.key, tt.asked), func(t *testing.T) {
			pub := testKey(t, tt.key).Public()
			got, err := AlgorithmFor(pub, tt.asked)
			if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
				t.Fatalf("AlgorithmFor = %q, %v; want %q", got, err, tt.want)
			}
			if err != nil {
				return
			}
			s, key := testSigner(t, tt.key, &CryptoSignerOptions{Algorithm: tt.asked})
			sig, err := s.Sign(t.Context(), key, []byte("input"))
			if err != nil {
				t.Fatal(err)
			}
			if err := Verify(key, []byte("input"), sig); err != nil {
				t.Error(err)
			}
			if err := Verify(key, []byte("other"), sig); !errors.Is(err, ErrBadSignature) {
				t.Errorf("another input: %v", err)
			}
		})
	}
}

func FuzzParseKeyFile(f *testing.F) {
	entries, err := os.ReadDir(filepath.Join("testdata", "keys"))
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		f.Add(keyData(f, e.Name()))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, _, err := parseKeyFile(t.Context(), data, "", noPassphrase)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys and %v", len(keys), err)
		}
		for _, k := range keys {
			if err := k.key.Check(); err != nil {
				t.Error(err)
			}
			if _, err := PublicJWK(k.key); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzDecryptPKCS8(f *testing.F) {
	for _, name := range []string{"rsa2048", "p384"} {
		block, _ := pem.Decode(keyData(f, name+".encrypted.pem"))
		f.Add(block.Bytes)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := parsePBES2(der); err != nil || bytes.Contains(der, []byte{0x02, 0x03}) {
			return // a count of three bytes is allowed and slow
		}
		plain, err := decryptPKCS8(t.Context(), der, withPassphrase(testPassphrase))
		if err != nil {
			return
		}
		if !isOneSequence(plain) {
			t.Errorf("% x", plain)
		}
		_, _ = parsePKCS8(plain)
	})
}

func FuzzRawFromDER(f *testing.F) {
	type vector struct{ DER string }
	for _, v := range readJSON[[]vector](f, "ecdsa_der_raw.json") {
		f.Add([]byte(v.DER))
		der := make([]byte, len(v.DER)/2)
		_, _ = fmt.Sscanf(v.DER, "%x", &der)
		f.Add(der)
	}
	_, key := testSigner(f, "p384", nil)
	f.Fuzz(func(t *testing.T, der []byte) {
		raw, err := RawFromDER(elliptic.P384(), der)
		if err == nil && len(raw) != key.Algorithm.SignatureSize(key.Public) {
			t.Fatalf("%d bytes", len(raw))
		}
		if raw, err := RawFromDER(elliptic.P256(), der); err == nil && len(raw) != 64 {
			t.Fatalf("%d bytes", len(raw))
		}
	})
}
