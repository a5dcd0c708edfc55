package awskms

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
	"github.com/smartcred/smartcred/internal/flight"
	"github.com/smartcred/smartcred/signer"
)

// API is what a [Signer] calls. [kms.Client] implements it.
type API interface {
	DescribeKey(context.Context, *kms.DescribeKeyInput, ...func(*kms.Options)) (*kms.DescribeKeyOutput, error)
	GetPublicKey(context.Context, *kms.GetPublicKeyInput, ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error)
	Sign(context.Context, *kms.SignInput, ...func(*kms.Options)) (*kms.SignOutput, error)
}

// Options configure a [Signer]. The zero value and nil are the safe defaults.
type Options struct {
	// Next are keys to come, the nearest first: published, and not used until the
	// alias is moved to them or a server refuses the others.
	Next []string
	// Previous are keys that were current, the latest first.
	Previous []string
	// Algorithm is what the keys sign with; empty: RS384 or ES384, as the key is.
	Algorithm signer.Algorithm
	// Timeout bounds one call, with all the attempts that the SDK makes; 0: 10 seconds.
	Timeout time.Duration
	// Observer is told of events; nil: slog's default logger.
	Observer smartcred.Observer
}

// A Signer is a [signer.Signer] with keys in AWS KMS. A key's Version is its ARN,
// its kid the RFC 7638 thumbprint. It is safe for concurrent use.
//
// Keys describes each key that is named, one call a key, and asks once for the
// public half of each, which can't change. Sign is one call; the digest is
// computed here.
type Signer struct {
	client   func() API // which may hold credentials: printing the Signer calls no function
	opts     Options
	key      string
	backend  string
	calls    flight.Calls
	closing  func() // what Open opened; nil: nothing
	isSingle bool   // an alias alone

	mu       sync.Mutex
	known    map[string]*known // by ARN: keys that were listed once
	current  string            // ARN of the current key as listed last
	signed   string            // ARN of the current key that signed last
	former   string            // ARN of the one before it
	lists    int
	reported map[string]string // why names are left out
}

// known is what of a key can't change, and that it has signed once.
type known struct {
	public    crypto.PublicKey
	algorithm signer.Algorithm
	der       []byte
	tried     bool
	listed    bool
}

var _ signer.Signer = (*Signer)(nil)

// New returns a Signer for key: an id, an ARN, an alias (alias/name) or its ARN. It
// asks for nothing yet. An ARN's region counts, whatever the client's. Close does
// not close the client.
func New(client API, key string, opts *Options) (*Signer, error) {
	s := &Signer{client: func() API { return client }, key: key, backend: "awskms:///" + key, known: map[string]*known{}, reported: map[string]string{}}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Timeout <= 0 {
		s.opts.Timeout = awsclient.DefaultTimeout
	}
	var errs []error
	if client == nil {
		errs = append(errs, &smartcred.ConfigError{Option: "client", Problem: "there is none"})
	}
	errs = append(errs, checkName("key", key))
	for _, name := range s.opts.Next {
		errs = append(errs, checkName("next", name))
	}
	for _, name := range s.opts.Previous {
		errs = append(errs, checkName("previous", name))
	}
	if alg := s.opts.Algorithm; alg != "" && alg.Hash() == 0 {
		errs = append(errs, &smartcred.ConfigError{Option: "algorithm", Problem: "unknown; there are RS384, ES384, RS256, RS512, PS384, ES256"})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("awskms: make signer: %w", err)
	}
	s.isSingle = isAlias(key) && len(s.opts.Next)+len(s.opts.Previous) == 0
	return s, nil
}

// Keys implements [signer.Signer].
func (s *Signer) Keys(ctx context.Context) ([]signer.Key, error) {
	entries, err := s.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("awskms: list keys: %w", err)
	}
	keys := make([]signer.Key, len(entries))
	for i, e := range entries {
		keys[i] = e.key
	}
	return keys, nil
}

// Sign implements [signer.Signer]. Any key will do that Keys listed once.
func (s *Signer) Sign(ctx context.Context, key signer.Key, signingInput []byte) ([]byte, error) {
	k, err := s.find(ctx, key.Version)
	switch {
	case err != nil:
	case key.Algorithm != k.algorithm:
		err = fmt.Errorf("%w: the key signs with %s", smartcred.ErrUnsupportedAlgorithm, k.algorithm)
	case !samePublic(key.Public, k.public):
		err = fmt.Errorf("%w: that ARN's key has another public half", smartcred.ErrNotFound)
	}
	var sig []byte
	if err == nil {
		sig, err = s.sign(ctx, key.Version, k, signingInput)
	}
	if err != nil {
		return nil, fmt.Errorf("awskms: sign with key %q: %w", key.ID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k.tried = true
	if key.Version == s.current && key.Version != s.signed {
		if s.signed != "" {
			s.former = s.signed
		}
		s.signed = key.Version
	}
	return sig, nil
}

// Check reports whether KMS would let this process sign with the current key,
// without a signature: Sign with DryRun.
func (s *Signer) Check(ctx context.Context) error {
	e, err := s.describe(ctx, s.key)
	if err == nil {
		_, err = s.ask(ctx, e.key.Version, e.known, make([]byte, e.key.Algorithm.Hash().Size()), true)
	}
	if err != nil {
		return fmt.Errorf("awskms: check key %s: %w", s.key, err)
	}
	return nil
}

// Close ends calls under way, which then return [smartcred.ErrClosed], as all
// later ones do. A second call does nothing.
func (s *Signer) Close() error {
	s.calls.Close(s.closing)
	return nil
}

// find returns what is known of an ARN, after a look if nothing is.
func (s *Signer) find(ctx context.Context, arn string) (*known, error) {
	if k := s.knownKey(arn); k != nil {
		return k, ctx.Err()
	}
	if _, err := s.list(ctx); err != nil {
		return nil, err
	}
	if k := s.knownKey(arn); k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("version %q: %w among the keys that are named", arn, smartcred.ErrNotFound)
}

func (s *Signer) knownKey(arn string) *known {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[arn]; k != nil && k.listed {
		return k
	}
	return nil
}

// sign returns a JWS signature by an ARN's key.
func (s *Signer) sign(ctx context.Context, arn string, k *known, signingInput []byte) ([]byte, error) {
	sig, err := s.ask(ctx, arn, k, k.algorithm.Digest(signingInput), false)
	if err != nil {
		return nil, err
	}
	if curve := specs[k.algorithm].curve; curve != nil {
		return signer.RawFromDER(curve, sig)
	}
	return sig, nil
}

// ask has KMS sign a digest, and checks that the key asked for is the one that signed.
func (s *Signer) ask(ctx context.Context, arn string, k *known, digest []byte, dryRun bool) ([]byte, error) {
	call := awsclient.Call{Action: "kms:Sign", Resource: arn, Answers: answers}
	callCtx, end, err := s.calls.Begin(ctx, s.opts.Timeout)
	if err != nil {
		return nil, err
	}
	defer end()
	in := &kms.SignInput{
		KeyId: &arn, Message: digest, MessageType: types.MessageTypeDigest, SigningAlgorithm: specs[k.algorithm].signing,
	}
	if dryRun {
		in.DryRun = aws.Bool(true)
	}
	out, err := s.client().Sign(callCtx, in, inRegionOf(arn), forAssertion(ctx))
	var allowed *types.DryRunOperationException
	switch {
	case dryRun && errors.As(err, &allowed):
		return nil, nil
	case err != nil:
		return nil, call.Error(callCtx, err)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	switch size := k.algorithm.SignatureSize(k.public); {
	case aws.ToString(out.KeyId) != arn:
		return nil, call.Incomplete(id, "the answer does not name the key that was asked for")
	case len(out.Signature) == 0 || specs[k.algorithm].curve == nil && len(out.Signature) != size:
		return nil, call.Incomplete(id, "the answer holds no signature of the key's size")
	}
	return out.Signature, nil
}

// forAssertion puts the assertion's jti into the request's User-Agent, which
// CloudTrail keeps: one search finds an assertion there and at the server.
func forAssertion(ctx context.Context) func(*kms.Options) {
	jti := signer.AssertionID(ctx)
	return func(o *kms.Options) {
		if jti != "" {
			add := awsmiddleware.AddUserAgentKeyValue("smartcred-jti", jti)
			o.APIOptions = append(append([]func(*middleware.Stack) error(nil), o.APIOptions...), add)
		}
	}
}

// inRegionOf sends a call that names an ARN to the ARN's region: no other knows it.
func inRegionOf(name string) func(*kms.Options) {
	return func(o *kms.Options) {
		if region := regionOf(name); region != "" {
			o.Region = region
		}
	}
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
