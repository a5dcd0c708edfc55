//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred/signer"
)

var oidP384 = curves[1].oid

func ecKey(t testing.TB) (*ecdsa.PublicKey, []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return &k.PublicKey, bare
}

func TestParseEC(t *testing.T) {
	want, bare := ecKey(t)
	wrapped, err := asn1.Marshal(bare)
	if err != nil {
		t.Fatal(err)
	}
	for name, point := range map[string][]byte{"bare": bare, "wrapped": wrapped} {
		if got, err := parseEC(oidP384, point); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	off := bytes.Clone(bare)
	off[len(off)-1] ^= 1
	for name, point := range map[string][]byte{
		"empty": {}, "short": bare[:96], "not on the curve": off, "infinity": {0}, "trailing": append(bytes.Clone(wrapped), 0),
		"wrapped twice": append([]byte{4, byte(len(wrapped))}, wrapped...),
	} {
		if _, err := parseEC(oidP384, point); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := parseEC(oidP384[:4], bare); err == nil {
		t.Error("no curve: no error")
	}
	if _, err := parseEC(curves[0].oid, bare); err == nil {
		t.Error("another curve: no error")
	}
}

// A bare point whose X begins with 0x5f reads as an OCTET STRING of the right length.
func TestBarePointThatLooksWrapped(t *testing.T) {
	for {
		want, bare := ecKey(t)
		if bare[1] != 0x5f {
			continue
		}
		if got, err := parseEC(oidP384, bare); err != nil || !got.Equal(want) {
			t.Errorf("%v", err)
		}
		return
	}
}

func FuzzParseEC(f *testing.F) {
	_, bare := ecKey(f)
	wrapped, _ := asn1.Marshal(bare)
	f.Add(oidP384, bare)
	f.Add(oidP384, wrapped)
	f.Add([]byte{}, []byte{4})
	f.Fuzz(func(t *testing.T, params, point []byte) {
		pub, err := parseEC(params, point)
		if (pub == nil) == (err == nil) {
			t.Fatalf("%v, %v", pub, err)
		}
		if pub != nil {
			if _, err := pub.Bytes(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestParseRSA(t *testing.T) {
	n := bytes.Repeat([]byte{0xff}, 256)
	if k, err := parseRSA(n, []byte{1, 0, 1}); err != nil || k.E != 65537 || k.N.BitLen() != 2048 {
		t.Errorf("%v, %v", k, err)
	}
	for name, e := range map[string][]byte{"one": {1}, "even": {4}, "none": {}, "long": bytes.Repeat([]byte{0xff}, 9), "over 31 bits": {0xff, 0xff, 0xff, 0xff}} {
		if _, err := parseRSA(n, e); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPublicKeyInfo(t *testing.T) {
	want, _ := ecKey(t)
	spki, err := x509.MarshalPKIXPublicKey(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := publicFrom(cryptoki.CKK_EC, objectAttributes{cryptoki.CKA_EC_PARAMS: oidP384, cryptoki.CKA_PUBLIC_KEY_INFO: spki})
	if err != nil || !want.Equal(got) {
		t.Errorf("%v", err)
	}
	for name, a := range map[string]objectAttributes{
		"another kind": {cryptoki.CKA_PUBLIC_KEY_INFO: spki}, "nonsense": {cryptoki.CKA_PUBLIC_KEY_INFO: []byte("x")}, "nothing": {},
	} {
		if got, err := publicFrom(cryptoki.CKK_RSA, a); got != nil || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// What is handed to CKM_RSA_PKCS is what PKCS #1 v1.5 signs: padded and signed as a
// token does (RFC 8017 section 9.2), it verifies.
func TestDigestInfo(t *testing.T) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range []signer.Algorithm{signer.RS256, signer.RS384, signer.RS512} {
		_, data := operation(alg, []byte("input"))
		padded := slices.Concat([]byte{0, 1}, bytes.Repeat([]byte{0xff}, k.Size()-3-len(data)), []byte{0}, data)
		sig := new(big.Int).Exp(new(big.Int).SetBytes(padded), k.D, k.N).FillBytes(make([]byte, k.Size()))
		if err := signer.Verify(signer.Key{Algorithm: alg, Public: &k.PublicKey}, []byte("input"), sig); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	if m, _ := operation("HS256", nil); m != nil {
		t.Error("HS256 has a mechanism")
	}
}

func TestNumber(t *testing.T) {
	for _, v := range [][]byte{binary.NativeEndian.AppendUint64(nil, 3), binary.NativeEndian.AppendUint32(nil, 3)} {
		if n, ok := (objectAttributes{1: v}).number(1); !ok || n != 3 {
			t.Errorf("% x: %d, %t", v, n, ok)
		}
	}
	if _, ok := (objectAttributes{1: {3}}).number(1); ok {
		t.Error("one byte is a number")
	}
}
