//go:build cgo

package pkcs11

import (
	"fmt"
	"strings"

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred/signer"
)

// custody says what a token's attributes of a private key come to (PKCS#11 v2.40
// section 4.9). It is the token's word: nothing here can prove it.
func custody(a objectAttributes, token cryptoki.TokenInfo) signer.Custody {
	var evidence []string
	flag := func(name string, t uint) (value, said bool) {
		value, said = a.flag(t)
		if said {
			evidence = append(evidence, fmt.Sprintf("%s=%t", name, value))
		} else {
			evidence = append(evidence, name+" not given")
		}
		return value, said
	}
	local, _ := flag("CKA_LOCAL", cryptoki.CKA_LOCAL)
	never, _ := flag("CKA_NEVER_EXTRACTABLE", cryptoki.CKA_NEVER_EXTRACTABLE)
	always, _ := flag("CKA_ALWAYS_SENSITIVE", cryptoki.CKA_ALWAYS_SENSITIVE)
	extractable, saysExtractable := flag("CKA_EXTRACTABLE", cryptoki.CKA_EXTRACTABLE)
	sensitive, saysSensitive := flag("CKA_SENSITIVE", cryptoki.CKA_SENSITIVE)

	level, words := signer.CustodyUnknown, "the token does not say whether the key can leave it"
	switch {
	case extractable || saysSensitive && !sensitive:
		level, words = signer.CustodyExportable, "the key can leave the token"
	case !saysExtractable || !saysSensitive:
	case local && never && always:
		level, words = signer.CustodyGenerated, "made inside the token, and never could leave it"
	case local:
		level, words = signer.CustodyImported, "made inside the token and can't leave it now, but could before"
	default:
		level, words = signer.CustodyImported, "can't leave the token, but was made elsewhere"
	}
	return signer.Custody{Level: level, Evidence: fmt.Sprintf("%s: %s; token %q, model %q of %q, serial %q",
		words, strings.Join(evidence, ", "), token.Label, token.Model, token.ManufacturerID, token.SerialNumber)}
}
