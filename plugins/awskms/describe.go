package awskms

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
	"github.com/smartcred/smartcred/signer"
)

// An entry is a key that a name stands for now.
type entry struct {
	key   signer.Key
	known *known
}

// describe finds the key of a name and sees whether it may sign.
func (s *Signer) describe(ctx context.Context, name string) (*entry, error) {
	m, id, err := s.metadata(ctx, name)
	if err != nil {
		return nil, err
	}
	arn := aws.ToString(m.Arn)
	refused := &awsclient.Error{Action: "kms:DescribeKey", Resource: arn, RequestID: id}
	want := s.signing(m.KeySpec)
	switch {
	case m.KeyState == types.KeyStateDisabled:
		refused.Err, refused.Problem = smartcred.ErrDenied, "the key is disabled: aws kms enable-key makes it usable again"
	case m.KeyState == types.KeyStatePendingDeletion || m.KeyState == types.KeyStatePendingReplicaDeletion:
		refused.Err, refused.Problem = smartcred.ErrDenied, "the key is about to be deleted: aws kms cancel-key-deletion keeps it"
	case m.KeyState != types.KeyStateEnabled && m.KeyState != types.KeyStateUpdating:
		refused.Err, refused.Problem = smartcred.ErrDenied, "the key is not enabled: its state is "+one(m.KeyState)
	case m.KeyUsage != types.KeyUsageTypeSignVerify:
		refused.Err, refused.Problem = smartcred.ErrUnsupportedAlgorithm, "the key's usage is "+one(m.KeyUsage)+": make one with --key-usage SIGN_VERIFY"
	case want == "":
		refused.Err, refused.Problem = smartcred.ErrUnsupportedAlgorithm, "the key's spec is "+one(m.KeySpec)+
			": make one with --key-spec ECC_NIST_P384 or RSA_2048, RSA_3072, RSA_4096 (ECC_NIST_P256 only where ES256 is asked for)"
	case len(m.SigningAlgorithms) > 0 && !slices.Contains(m.SigningAlgorithms, want):
		refused.Err, refused.Problem = smartcred.ErrUnsupportedAlgorithm, "the key's spec, "+one(m.KeySpec)+", does not sign with "+string(s.opts.Algorithm)
	default:
		k, err := s.publicKey(ctx, arn)
		if err != nil {
			return nil, err
		}
		return newEntry(arn, k, custody(m))
	}
	return nil, refused
}

func (s *Signer) metadata(ctx context.Context, name string) (*types.KeyMetadata, string, error) {
	call := awsclient.Call{Action: "kms:DescribeKey", Resource: name, Answers: answers}
	callCtx, end, err := s.calls.Begin(ctx, s.opts.Timeout)
	if err != nil {
		return nil, "", err
	}
	defer end()
	out, err := s.client().DescribeKey(callCtx, &kms.DescribeKeyInput{KeyId: &name}, inRegionOf(name))
	if err != nil {
		return nil, "", call.Error(callCtx, err)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	m := out.KeyMetadata
	switch {
	case m == nil || !keyARN.MatchString(aws.ToString(m.Arn)):
		return nil, "", call.Incomplete(id, "the answer names no key")
	case !answersFor(name, *m.Arn):
		return nil, "", call.Incomplete(id, "the answer names another key than the one asked for")
	}
	return m, awsclient.RequestIDOf(id), nil
}

// publicKey returns what is known of an ARN's key. AWS is asked once: the key of
// an ARN never changes, and each time costs as much as a signature.
func (s *Signer) publicKey(ctx context.Context, arn string) (*known, error) {
	s.mu.Lock()
	k := s.known[arn]
	s.mu.Unlock()
	if k != nil {
		return k, nil
	}
	call := awsclient.Call{Action: "kms:GetPublicKey", Resource: arn, Answers: answers}
	callCtx, end, err := s.calls.Begin(ctx, s.opts.Timeout)
	if err != nil {
		return nil, err
	}
	defer end()
	out, err := s.client().GetPublicKey(callCtx, &kms.GetPublicKeyInput{KeyId: &arn}, inRegionOf(arn))
	if err != nil {
		return nil, call.Error(callCtx, err)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	if aws.ToString(out.KeyId) != arn {
		return nil, call.Incomplete(id, "the answer does not name the key that was asked for")
	}
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		return nil, call.Incomplete(id, "the answer holds no public key")
	}
	algorithm, err := signer.AlgorithmFor(public, s.opts.Algorithm)
	if err != nil {
		return nil, &awsclient.Error{Action: call.Action, Resource: arn, Problem: "the key can't be used", RequestID: awsclient.RequestIDOf(id), Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[arn]; k != nil { // another call was first
		return k, nil
	}
	k = &known{public: public, algorithm: algorithm, der: out.PublicKey}
	s.known[arn] = k
	return k, nil
}

// newEntry makes a key with a public half of its own, which its owner may write to.
func newEntry(arn string, k *known, c signer.Custody) (*entry, error) {
	public, err := x509.ParsePKIXPublicKey(k.der)
	if err != nil {
		return nil, err
	}
	thumb, err := signer.Thumbprint(public)
	if err != nil {
		return nil, err
	}
	return &entry{known: k, key: signer.Key{ID: thumb, Version: arn, Algorithm: k.algorithm, Public: crypto.PublicKey(public), Custody: c}}, nil
}

// signing is what a key of a spec signs with here; empty: nothing.
func (s *Signer) signing(spec types.KeySpec) types.SigningAlgorithmSpec {
	algorithm := s.opts.Algorithm
	switch spec {
	case types.KeySpecRsa2048, types.KeySpecRsa3072, types.KeySpecRsa4096:
		if algorithm == "" {
			algorithm = signer.RS384
		}
	case types.KeySpecEccNistP384:
		if algorithm == "" {
			algorithm = signer.ES384
		}
	case types.KeySpecEccNistP256:
	default:
		return ""
	}
	return specs[algorithm].signing
}

// one returns a word of AWS's, if it is one.
func one[E interface {
	~string
	Values() []E
}](word E) string {
	if slices.Contains(word.Values(), word) {
		return string(word)
	}
	return "one that is not known here"
}

// custody says in words where the private key is, for an auditor.
func custody(m *types.KeyMetadata) signer.Custody {
	c := signer.Custody{Level: signer.CustodyUnknown}
	var says string
	switch m.Origin {
	case types.OriginTypeAwsKms:
		c.Level, says = signer.CustodyGenerated, "made in AWS KMS, which exports no private keys"
	case types.OriginTypeExternal:
		c.Level, says = signer.CustodyImported, "made elsewhere and imported into AWS KMS, which exports no private keys"
	default:
		says = "kept outside AWS KMS"
	}
	c.Evidence = fmt.Sprintf("AWS KMS key %s, Origin %s: %s; %s", aws.ToString(m.Arn), one(m.Origin), says, spread(m))
	if m.CreationDate != nil {
		c.Evidence += "; made " + m.CreationDate.UTC().Format(time.DateOnly)
	}
	return c
}

// spread says which regions have the key.
func spread(m *types.KeyMetadata) string {
	if !aws.ToBool(m.MultiRegion) {
		return "in one region (MultiRegion false)"
	}
	var regions []string
	if r := m.MultiRegionConfiguration; r != nil {
		keys := r.ReplicaKeys
		if r.PrimaryKey != nil {
			keys = append([]types.MultiRegionKey{*r.PrimaryKey}, keys...)
		}
		for _, k := range keys {
			if region := aws.ToString(k.Region); regionName.MatchString(region) {
				regions = append(regions, region)
			}
		}
	}
	return "MultiRegion true: AWS KMS of several regions has it (" + strings.Join(regions, ", ") + ")"
}
