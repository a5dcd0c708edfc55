package awsfake_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred/internal/awsfake"
)

func start(t *testing.T, opts *awsfake.Options) *awsfake.Server {
	t.Helper()
	s := awsfake.New(opts)
	t.Cleanup(s.Close)
	return s
}

func kmsClient(s *awsfake.Server, change ...func(*kms.Options)) *kms.Client {
	return kms.New(kms.Options{
		Region: awsfake.Region, BaseEndpoint: &s.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, ""),
	}, change...)
}

func secretsClient(s *awsfake.Server) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{
		Region: awsfake.Region, BaseEndpoint: &s.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, ""),
	})
}

func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

var digest = sha512.Sum384([]byte("header.claims"))

func input(keyID string, alg kmstypes.SigningAlgorithmSpec) *kms.SignInput {
	return &kms.SignInput{KeyId: &keyID, Message: digest[:], MessageType: kmstypes.MessageTypeDigest, SigningAlgorithm: alg}
}

const (
	ecdsa384 = kmstypes.SigningAlgorithmSpecEcdsaSha384
	rsa384   = kmstypes.SigningAlgorithmSpecRsassaPkcs1V15Sha384
)

func TestSignaturesVerify(t *testing.T) {
	s := start(t, nil)
	client := kmsClient(s)
	for spec, alg := range map[string]kmstypes.SigningAlgorithmSpec{"ECC_NIST_P384": ecdsa384, "RSA_2048": rsa384, "RSA_3072": rsa384} {
		arn := s.CreateKey(awsfake.Key{Spec: spec})
		s.SetAlias("alias/"+spec, arn)
		out, err := client.Sign(t.Context(), input("alias/"+spec, alg))
		if err != nil {
			t.Fatal(err)
		}
		public, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &arn})
		if err != nil {
			t.Fatal(err)
		}
		pub, err := x509.ParsePKIXPublicKey(public.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if *out.KeyId != arn || *public.KeyId != arn || string(public.KeySpec) != spec {
			t.Errorf("%s: answers name %s, %s, %s", spec, *out.KeyId, *public.KeyId, public.KeySpec)
		}
		switch pub := pub.(type) {
		case *ecdsa.PublicKey:
			if !ecdsa.VerifyASN1(pub, digest[:], out.Signature) {
				t.Errorf("%s: the signature does not verify", spec)
			}
		case *rsa.PublicKey:
			if err := rsa.VerifyPKCS1v15(pub, crypto.SHA384, digest[:], out.Signature); err != nil {
				t.Errorf("%s: %v", spec, err)
			}
		}
	}
}

func TestLeadingZeros(t *testing.T) {
	s := start(t, nil)
	arn := s.CreateKey(awsfake.Key{})
	s.LeadingZeros(1)
	out, err := kmsClient(s).Sign(t.Context(), input(arn, ecdsa384))
	if err != nil {
		t.Fatal(err)
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(out.Signature, &sig); err != nil {
		t.Fatal(err)
	}
	if sig.R.BitLen() > 376 && sig.S.BitLen() > 376 {
		t.Errorf("r has %d bits, s %d", sig.R.BitLen(), sig.S.BitLen())
	}
}

func TestCredentialsAreVerified(t *testing.T) {
	now := time.Now()
	clock := now
	s := start(t, &awsfake.Options{Now: func() time.Time { return clock }})
	arn := s.CreateKey(awsfake.Key{})
	s.AddCredential(awsfake.Credential{AccessKeyID: "ASIATEMPORARY", SecretAccessKey: "temporary-secret-access-key", SessionToken: "token", Expires: now.Add(time.Minute)})
	for name, c := range map[string]struct {
		id, secret, token string
		skew              time.Duration
		want              string
	}{
		"right":                   {id: awsfake.AccessKeyID, secret: awsfake.SecretAccessKey},
		"wrong secret":            {id: awsfake.AccessKeyID, secret: "a wrong secret access key", want: "InvalidSignatureException"},
		"unknown":                 {id: "AKIAUNKNOWN", secret: "a wrong secret access key", want: "UnrecognizedClientException"},
		"temporary":               {id: "ASIATEMPORARY", secret: "temporary-secret-access-key", token: "token"},
		"temporary without token": {id: "ASIATEMPORARY", secret: "temporary-secret-access-key", want: "UnrecognizedClientException"},
		"temporary, ended":        {id: "ASIATEMPORARY", secret: "temporary-secret-access-key", token: "token", skew: 2 * time.Minute, want: "ExpiredTokenException"},
		"clock too early":         {id: awsfake.AccessKeyID, secret: awsfake.SecretAccessKey, skew: 6 * time.Minute, want: "InvalidSignatureException"},
		"clock too late":          {id: awsfake.AccessKeyID, secret: awsfake.SecretAccessKey, skew: -6 * time.Minute, want: "InvalidSignatureException"},
	} {
		clock = now.Add(c.skew)
		client := kmsClient(s, func(o *kms.Options) {
			o.Credentials = credentials.NewStaticCredentialsProvider(c.id, c.secret, c.token)
		})
		if _, err := client.Sign(t.Context(), input(arn, ecdsa384)); code(err) != c.want {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	// The SDK learns of the difference from the answer, and signs again.
	clock = now.Add(6 * time.Minute)
	client := kmsClient(s, func(o *kms.Options) { o.RetryMaxAttempts = 2 })
	if _, err := client.Sign(t.Context(), input(arn, ecdsa384)); err != nil {
		t.Errorf("a second attempt: %v", err)
	}
}

func TestKMSRefusals(t *testing.T) {
	s := start(t, nil)
	make := func(k awsfake.Key, state string) string {
		arn := s.CreateKey(k)
		if state != "" {
			s.SetKeyState(arn, state)
		}
		return arn
	}
	right := make(awsfake.Key{}, "")
	foreign := make(awsfake.Key{Account: "999988887777"}, "")
	for name, c := range map[string]struct {
		key, want string
		alg       kmstypes.SigningAlgorithmSpec
	}{
		"right":            {key: right},
		"other account":    {key: foreign, want: "AccessDeniedException"},
		"shared":           {key: make(awsfake.Key{Account: "999988887777", Users: []string{awsfake.Account}}, "")},
		"other region":     {key: make(awsfake.Key{Region: "us-west-2"}, ""), want: "NotFoundException"},
		"no key":           {key: right + "0", want: "NotFoundException"},
		"no alias":         {key: "alias/none", want: "NotFoundException"},
		"disabled":         {key: make(awsfake.Key{}, awsfake.Disabled), want: "DisabledException"},
		"pending deletion": {key: make(awsfake.Key{}, awsfake.PendingDeletion), want: "KMSInvalidStateException"},
		"wrong usage":      {key: make(awsfake.Key{Spec: "RSA_2048", Usage: "ENCRYPT_DECRYPT"}, ""), alg: rsa384, want: "InvalidKeyUsageException"},
		"wrong algorithm":  {key: right, alg: rsa384, want: "InvalidKeyUsageException"},
		"wrong digest":     {key: make(awsfake.Key{Spec: "ECC_NIST_P256"}, ""), alg: kmstypes.SigningAlgorithmSpecEcdsaSha256, want: "ValidationException"},
	} {
		if c.alg == "" {
			c.alg = ecdsa384
		}
		if _, err := kmsClient(s).Sign(t.Context(), input(c.key, c.alg)); code(err) != c.want {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	in := input(right, ecdsa384)
	in.DryRun = aws.Bool(true)
	if _, err := kmsClient(s).Sign(t.Context(), in); code(err) != "DryRunOperationException" {
		t.Errorf("dry run: %v", err)
	}
	allow := s.Deny("Sign", right)
	if _, err := kmsClient(s).Sign(t.Context(), input(right, ecdsa384)); code(err) != "AccessDeniedException" {
		t.Errorf("denied: %v", err)
	}
	allow()
	if n := s.Calls("Sign"); n != 13 {
		t.Errorf("%d calls of Sign, want 13", n)
	}
}

// What AWS's table of key states and its documentation of the operations say.
func TestKeysChangeAsInKMS(t *testing.T) {
	s := start(t, nil)
	client := kmsClient(s)
	ctx := t.Context()
	key := s.CreateKey(awsfake.Key{})
	pending := s.CreateKey(awsfake.Key{})
	s.SetKeyState(pending, awsfake.PendingDeletion)
	s.SetAlias("alias/there", key)
	window := func(days int32) *kms.ScheduleKeyDeletionInput {
		return &kms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: &days}
	}
	create := func(name, target string) error {
		_, err := client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &target})
		return err
	}
	for name, c := range map[string]struct {
		call func() error
		want string
	}{
		"cancel the deletion of an enabled key": {func() error {
			_, err := client.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &key})
			return err
		}, "KMSInvalidStateException"},
		"enable a key that is to be deleted": {func() error {
			_, err := client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &pending})
			return err
		}, "KMSInvalidStateException"},
		"delete too early":             {func() error { _, err := client.ScheduleKeyDeletion(ctx, window(6)); return err }, "ValidationException"},
		"alias of a key to be deleted": {func() error { return create("alias/new", pending) }, "KMSInvalidStateException"},
		"move an alias to one": {func() error {
			_, err := client.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/there"), TargetKeyId: &pending})
			return err
		}, "KMSInvalidStateException"},
		"an alias that is there": {func() error { return create("alias/there", key) }, "AlreadyExistsException"},
		"no alias":               {func() error { return create("smart", key) }, "ValidationException"},
		"AWS's own alias":        {func() error { return create("alias/aws/smart", key) }, "NotAuthorizedException"},
		"sign with an elliptic curve key made for encryption": {func() error {
			_, err := client.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: kmstypes.KeySpecEccNistP384})
			return err
		}, "ValidationException"},
		"no such spec": {func() error {
			_, err := client.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: "ROT_13"})
			return err
		}, "ValidationException"},
		"an empty key": {func() error {
			_, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("")})
			return err
		}, "ValidationException"},
	} {
		if err := c.call(); code(err) != c.want {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	out, err := client.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil || out.KeyMetadata.KeySpec != kmstypes.KeySpecSymmetricDefault || out.KeyMetadata.KeyUsage != kmstypes.KeyUsageTypeEncryptDecrypt {
		t.Errorf("a key without a spec: %+v, %v", out, err)
	}
	scheduled, err := client.ScheduleKeyDeletion(ctx, window(7))
	if err != nil || scheduled.KeyState != kmstypes.KeyStatePendingDeletion || !scheduled.DeletionDate.After(time.Now()) {
		t.Errorf("scheduled: %+v, %v", scheduled, err)
	}
	allow := s.Deny("DeleteAlias", "alias/there")
	remove := func() error {
		_, err := client.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String("alias/there")})
		return err
	}
	if err := remove(); code(err) != "AccessDeniedException" {
		t.Errorf("denied: %v", err)
	}
	allow()
	if err := remove(); err != nil {
		t.Error(err)
	}
}

func TestReplicas(t *testing.T) {
	s := start(t, nil)
	arn := s.CreateKey(awsfake.Key{MultiRegion: true})
	replica := s.ReplicateKey(arn, "us-west-2")
	client := kmsClient(s, func(o *kms.Options) { o.Region = "us-west-2" })
	out, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &replica})
	if err != nil {
		t.Fatal(err)
	}
	if m := out.KeyMetadata; *m.Arn != replica || m.MultiRegionConfiguration.MultiRegionKeyType != kmstypes.MultiRegionKeyTypeReplica {
		t.Errorf("metadata %+v", m)
	}
	if _, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn}); code(err) != "NotFoundException" {
		t.Errorf("the primary in another region: %v", err)
	}
}

func TestStagesMove(t *testing.T) {
	s := start(t, nil)
	s.CreateSecret("smart", "one")
	client := secretsClient(s)
	get := func(stage string) string {
		out, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("smart"), VersionStage: &stage})
		if err != nil {
			return code(err)
		}
		return *out.SecretString
	}
	want := func(when, current, previous, pending string) {
		t.Helper()
		got := []string{get(awsfake.Current), get(awsfake.Previous), get(awsfake.Pending)}
		if diff := cmp.Diff([]string{current, previous, pending}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	const none = "ResourceNotFoundException"
	want("at first", "one", none, none)
	token := "11111111-2222-4333-8444-555555555555"
	for range 2 { // it is idempotent
		if _, err := client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
			SecretId: aws.String("smart"), SecretString: aws.String("two"), ClientRequestToken: &token, VersionStages: []string{awsfake.Pending},
		}); err != nil {
			t.Fatal(err)
		}
	}
	want("staged", "one", none, "two")
	if _, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String("smart"), VersionId: &token, VersionStage: aws.String(awsfake.Current),
	}); code(err) != "InvalidRequestException" {
		t.Errorf("a version by another one's label: %v", err)
	}
	move := func(ctx context.Context, from string) error {
		in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: aws.String("smart"), VersionStage: aws.String(awsfake.Current), MoveToVersionId: &token}
		if from != "" {
			in.RemoveFromVersionId = &from
		}
		_, err := client.UpdateSecretVersionStage(ctx, in)
		return err
	}
	if err := move(t.Context(), ""); code(err) != "InvalidParameterException" {
		t.Errorf("without the version that has it: %v", err)
	}
	if err := move(t.Context(), s.Version("smart", awsfake.Current)); err != nil {
		t.Fatal(err)
	}
	want("moved", "two", "one", "two")
	s.PutSecret("smart", "three")
	want("put", "three", "two", "two")
	s.DeleteSecret("smart")
	want("deleted", "InvalidRequestException", "InvalidRequestException", "InvalidRequestException")
	s.RestoreSecret("smart")
	restore := s.FailDecryption("smart")
	want("locked", "DecryptionFailure", "DecryptionFailure", "DecryptionFailure")
	restore()
	allow := s.Deny("GetSecretValue", "smart")
	want("denied", "AccessDeniedException", "AccessDeniedException", "AccessDeniedException")
	allow()
	want("restored", "three", "two", "two")
}

func TestRotationNeedsAFunction(t *testing.T) {
	s := start(t, nil)
	client := secretsClient(s)
	s.CreateSecret("smart", "")
	if _, err := client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("smart"), SecretString: aws.String("one"), VersionStages: []string{"MINE"},
	}); err != nil || s.SecretString("smart", awsfake.Current) != "one" {
		t.Errorf("the first version is not current: %v", err)
	}
	if _, err := client.RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{SecretId: aws.String("smart")}); code(err) != "InvalidRequestException" {
		t.Error(err)
	}
}

func TestFaults(t *testing.T) {
	s := start(t, nil)
	arn := s.CreateKey(awsfake.Key{})
	client := kmsClient(s)
	sign := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := client.Sign(ctx, input(arn, ecdsa384))
		return err
	}
	s.Throttle("Sign", 1)
	if err := sign(); code(err) != "ThrottlingException" {
		t.Errorf("throttled: %v", err)
	}
	if err := sign(); err != nil {
		t.Errorf("after it: %v", err)
	}
	remove := s.Inject(awsfake.Fault{Garble: true})
	if err := sign(); err == nil {
		t.Error("no error in garbage")
	}
	remove()
	begin := s.Stop()
	if err := sign(); err == nil {
		t.Error("no error while it is stopped")
	}
	begin()
	remove = s.Inject(awsfake.Fault{Stall: true})
	time.AfterFunc(20*time.Millisecond, remove)
	if err := sign(); err != nil {
		t.Errorf("after the stall: %v", err)
	}
}
