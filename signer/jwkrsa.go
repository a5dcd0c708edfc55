package signer

import (
	"crypto"
	"crypto/rsa"
	"fmt"
	"math/big"
)

// maxFactoredBits bounds the time that computing missing factors takes.
const maxFactoredBits = 4096

// rsaFromJWK follows RFC 7518 section 6.3: n, e and d, and either all of p, q,
// dp, dq and qi or none; without them the factors are computed.
func rsaFromJWK(object jsonObject) (crypto.Signer, error) {
	numbers := map[string]*big.Int{}
	given := 0
	for i, name := range []string{"n", "e", "d", "p", "q", "dp", "dq", "qi"} {
		if !object.has(name) {
			if i < 2 {
				return nil, malformed("an RSA key without %q", name)
			}
			continue
		}
		b, err := object.bytes(name)
		if err != nil {
			return nil, err
		}
		if len(b) > maxRSABits/8 {
			return nil, tooLarge()
		}
		if b[0] == 0 {
			return nil, malformed("%q begins with a zero byte", name)
		}
		numbers[name] = new(big.Int).SetBytes(b)
		if i > 2 {
			given++
		}
	}
	n, e, d := numbers["n"], numbers["e"], numbers["d"]
	if !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 || e.Bit(0) == 0 || n.Bit(0) == 0 {
		return nil, malformed("n or e is not one that RSA can have (e: odd, 3 to 2^31-1)")
	}
	if object.has("oth") {
		return nil, unsupported("an RSA key of more than two primes")
	}
	if d == nil {
		return nil, fmt.Errorf("%w: it is public only", errNotForSigning)
	}
	public := rsa.PublicKey{N: n, E: int(e.Int64())}
	if _, err := AlgorithmFor(&public, ""); err != nil {
		return nil, err // before the work below
	}
	if d.Cmp(n) >= 0 {
		return nil, malformed("d is larger than n")
	}
	p, q := numbers["p"], numbers["q"]
	switch given {
	case 5:
	case 0:
		if n.BitLen() > maxFactoredBits {
			return nil, unsupported("p, q, dp, dq and qi are missing, which is taken for at most %d bits", maxFactoredBits)
		}
		var ok bool
		if p, q, ok = factors(n, e, d); !ok {
			return nil, malformed("p, q, dp, dq and qi are missing, and can't be computed from n, e and d")
		}
	default:
		return nil, malformed("p, q, dp, dq and qi are there in part only")
	}
	key := &rsa.PrivateKey{PublicKey: public, D: d, Primes: []*big.Int{p, q}}
	key.Precomputed.Dp, key.Precomputed.Dq, key.Precomputed.Qinv = numbers["dp"], numbers["dq"], numbers["qi"]
	key.Precompute()
	if key.Validate() != nil {
		return nil, malformed("the numbers of the RSA key do not belong together")
	}
	return key, nil
}

// factors computes p > q from n, e and d (NIST SP 800-56B appendix C.1): a
// square root of 1 other than ±1 modulo n shares a factor with n. Each base
// finds one with a chance of at least a half, so that 64 always suffice; the
// first tells whether d belongs to n at all.
func factors(n, e, d *big.Int) (p, q *big.Int, ok bool) {
	one := big.NewInt(1)
	last := new(big.Int).Sub(n, one)
	k := new(big.Int).Mul(d, e)
	k.Sub(k, one)
	if k.Sign() <= 0 || n.ProbablyPrime(1) {
		return nil, nil, false
	}
	twos := k.TrailingZeroBits()
	odd := new(big.Int).Rsh(k, twos)
	for base := int64(2); base < 66; base++ {
		x := new(big.Int).Exp(big.NewInt(base), odd, n)
		for range twos {
			if x.Cmp(one) == 0 || x.Cmp(last) == 0 {
				break
			}
			square := new(big.Int).Mul(x, x)
			square.Mod(square, n)
			if square.Cmp(one) == 0 {
				p = new(big.Int).GCD(nil, nil, x.Sub(x, one), n)
				q = new(big.Int).Div(n, p)
				if p.Cmp(q) < 0 {
					p, q = q, p
				}
				return p, q, p.BitLen() < n.BitLen() && q.BitLen() > 1
			}
			x = square
		}
		if x.Cmp(one) != 0 && x.Cmp(last) != 0 {
			return nil, nil, false
		}
	}
	return nil, nil, false
}
