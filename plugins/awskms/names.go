package awskms

import (
	"crypto/elliptic"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
	"github.com/smartcred/smartcred/signer"
)

// specs is how KMS calls the algorithms. It gives elliptic curve signatures in DER.
var specs = map[signer.Algorithm]struct {
	signing types.SigningAlgorithmSpec
	curve   elliptic.Curve
}{
	signer.RS256: {types.SigningAlgorithmSpecRsassaPkcs1V15Sha256, nil},
	signer.RS384: {types.SigningAlgorithmSpecRsassaPkcs1V15Sha384, nil},
	signer.RS512: {types.SigningAlgorithmSpecRsassaPkcs1V15Sha512, nil},
	signer.PS384: {types.SigningAlgorithmSpecRsassaPssSha384, nil},
	signer.ES256: {types.SigningAlgorithmSpecEcdsaSha256, elliptic.P256()},
	signer.ES384: {types.SigningAlgorithmSpecEcdsaSha384, elliptic.P384()},
}

// answers are KMS's own errors.
var answers = map[string]awsclient.Answer{
	"NotFoundException":             {Err: smartcred.ErrNotFound, Says: "there is no such key or alias in that account and region"},
	"DisabledException":             {Err: smartcred.ErrDenied, Says: "the key is disabled"},
	"KMSInvalidStateException":      {Err: smartcred.ErrDenied, Says: "the key is about to be deleted, or has no key material yet"},
	"InvalidKeyUsageException":      {Err: smartcred.ErrUnsupportedAlgorithm, Says: "the key is not for signing with that algorithm"},
	"UnsupportedOperationException": {Err: smartcred.ErrUnsupportedAlgorithm, Says: "the key is not for signing"},
	"InvalidArnException":           {Err: smartcred.ErrInvalidConfig, Says: "that is no ARN of a key or alias"},
	"InvalidGrantTokenException":    {Err: smartcred.ErrDenied, Says: "a grant is not valid"},
	"KMSInternalException":          {Says: "KMS failed"},
	"KeyUnavailableException":       {Says: "KMS can't reach the key for now"},
	"DependencyTimeoutException":    {Says: "KMS timed out"},
}

var (
	keyName    = regexp.MustCompile(`^(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key/[A-Za-z0-9-]+|alias/[A-Za-z0-9/_-]+)|alias/[A-Za-z0-9/_-]+|[A-Za-z0-9-]+)$`)
	regionName = regexp.MustCompile(`^[a-z0-9-]+$`)
	keyARN     = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$`)
)

// checkName says what is wrong with the name of a key. It does not print it: it
// may be a secret that was put in the wrong place.
func checkName(option, name string) error {
	if len(name) <= 2048 && keyName.MatchString(name) {
		return nil
	}
	return &smartcred.ConfigError{Option: option, Problem: "not a KMS key: name it by its id, its ARN, alias/NAME or the alias' ARN"}
}

func isAlias(name string) bool {
	return strings.HasPrefix(name[strings.LastIndexByte(name, ':')+1:], "alias/")
}

// answersFor reports whether arn is what a name that is no alias stands for.
func answersFor(name, arn string) bool {
	return isAlias(name) || name == arn || strings.HasSuffix(arn, ":key/"+name)
}
