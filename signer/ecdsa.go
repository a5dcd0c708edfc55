package signer

import (
	"crypto/elliptic"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

var errNotDER = errors.New("not a DER SEQUENCE of two INTEGERs")

// RawFromDER returns the JWS form R‖S (RFC 7518 section 3.4) of an ECDSA
// signature in ASN.1 DER (SEC 1 appendix C.5, as cloud KMSs, HSM libraries and
// Go's SignASN1 give it): both halves left-padded to the size of the curve's
// field, 96 bytes for P-384.
//
// It is strict: exactly one SEQUENCE of two minimal, positive INTEGERs, both
// below the order of the curve, and nothing after it.
func RawFromDER(curve elliptic.Curve, der []byte) ([]byte, error) {
	if curve != elliptic.P384() && curve != elliptic.P256() {
		return nil, fmt.Errorf("signer: convert signature: %w", unsupported("only P-384 and P-256 signatures are converted"))
	}
	input := cryptobyte.String(der)
	var sequence cryptobyte.String
	r, s := new(big.Int), new(big.Int)
	if !input.ReadASN1(&sequence, asn1.SEQUENCE) || !input.Empty() ||
		!sequence.ReadASN1Integer(r) || !sequence.ReadASN1Integer(s) || !sequence.Empty() {
		return nil, fmt.Errorf("signer: convert signature: %w", errNotDER)
	}
	order := curve.Params().N
	if r.Sign() <= 0 || s.Sign() <= 0 || r.Cmp(order) >= 0 || s.Cmp(order) >= 0 {
		return nil, fmt.Errorf("signer: convert signature: %w", errors.New("r or s is not between 1 and the order of the curve"))
	}
	size := coordinateSize(curve)
	raw := make([]byte, 2*size)
	r.FillBytes(raw[:size])
	s.FillBytes(raw[size:])
	return raw, nil
}

func coordinateSize(curve elliptic.Curve) int { return (curve.Params().BitSize + 7) / 8 }
