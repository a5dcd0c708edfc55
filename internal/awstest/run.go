package awstest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/awskms"
	_ "github.com/smartcred/smartcred/plugins/awssecretsmanager" // its URIs
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/secretsource/secretsourcetest"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/signer/signertest"
)

// spreads is how long AWS may take to spread an alias or the state of a key.
const spreads = 6 * time.Minute

// Run shows both backends against the AWS that the environment points to, whose
// caller may create and delete keys, aliases and secrets named smartcred-test-….
// It deletes what it made: a real account keeps keys for 7 days, and takes about a
// dollar a month for each until then.
func Run(t *testing.T) {
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var id [6]byte
	_, _ = rand.Read(id[:])
	b := &bed{kms: kms.NewFromConfig(cfg), secrets: secretsmanager.NewFromConfig(cfg), name: "smartcred-test-" + hex.EncodeToString(id[:])}
	for _, spec := range []kmstypes.KeySpec{kmstypes.KeySpecEccNistP384, kmstypes.KeySpecRsa2048} {
		t.Run("KMS "+string(spec), func(t *testing.T) { b.runKMS(t, spec) })
	}
	t.Run("Secrets Manager", b.runSecrets)
}

type bed struct {
	kms     *kms.Client
	secrets *secretsmanager.Client
	name    string
}

var options = secretsource.OpenOptions{AllowInsecureLoopback: true, Observer: smartcred.Discard}

func (b *bed) createKey(t *testing.T, spec kmstypes.KeySpec) (arn string) {
	t.Helper()
	made, err := b.kms.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: kmstypes.KeyUsageTypeSignVerify, Description: aws.String(b.name)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := b.kms.ScheduleKeyDeletion(context.WithoutCancel(t.Context()), &kms.ScheduleKeyDeletionInput{KeyId: made.KeyMetadata.Arn, PendingWindowInDays: aws.Int32(7)})
		if err != nil {
			t.Error(err)
		}
	})
	return *made.KeyMetadata.Arn
}

func (b *bed) runKMS(t *testing.T, spec kmstypes.KeySpec) {
	ctx := t.Context()
	alias := "alias/" + b.name + "-" + strings.ToLower(strings.ReplaceAll(string(spec), "_", "-"))
	first, second := b.createKey(t, spec), b.createKey(t, spec)
	if _, err := b.kms.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &first}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := b.kms.DeleteAlias(context.WithoutCancel(ctx), &kms.DeleteAliasInput{AliasName: &alias}); err != nil {
			t.Error(err)
		}
	})
	opened, err := signer.Open(ctx, "awskms:///"+alias, &signer.OpenOptions{OpenOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*awskms.Signer)
	t.Cleanup(func() { s.Close() })

	eventually(t, func() error { return signsFirst(ctx, s, first) })
	if err := signertest.Check(ctx, s); err != nil {
		t.Error(err)
	}
	if err := s.Check(ctx); err != nil {
		t.Errorf("a dry run: %v", err)
	}

	if _, err := b.kms.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: &alias, TargetKeyId: &second}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return signsFirst(ctx, s, second) })
	keys, err := s.Keys(ctx)
	if err != nil || len(keys) != 2 || keys[1].Version != first {
		t.Fatalf("moved: %d keys, %v; want the former one as well", len(keys), err)
	}

	if _, err := b.kms.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &first}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if _, err := s.Sign(ctx, keys[1], []byte("header.claims")); !errors.Is(err, smartcred.ErrDenied) {
			return errors.Join(errors.New("a disabled key is not denied"), err)
		}
		if left, err := s.Keys(ctx); err != nil || len(left) != 1 {
			return errors.Join(errors.New("a disabled key is listed"), err)
		}
		return nil
	})
}

// signsFirst reports whether the key listed first is that one, and signs.
func signsFirst(ctx context.Context, s signer.Signer, arn string) error {
	keys, err := s.Keys(ctx)
	if err != nil {
		return err
	}
	if keys[0].Version != arn {
		return errors.New("the alias stands for " + keys[0].Version + " still")
	}
	sig, err := s.Sign(ctx, keys[0], []byte("header.claims"))
	if err != nil {
		return err
	}
	return signer.Verify(keys[0], []byte("header.claims"), sig)
}

func (b *bed) runSecrets(t *testing.T) {
	ctx := t.Context()
	name := b.name + "/app"
	made, err := b.secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(`{"client_secret":"one"}`)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := b.secrets.DeleteSecret(context.WithoutCancel(ctx), &secretsmanager.DeleteSecretInput{SecretId: made.ARN, ForceDeleteWithoutRecovery: aws.Bool(true)})
		if err != nil {
			t.Error(err)
		}
	})
	src, err := secretsource.Open(ctx, "awssecretsmanager:///"+name+"#client_secret", &options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.(interface{ Close() error }).Close() })

	has := func(current, previous string) func() error {
		return func() error {
			if got := lookup(ctx, src, secretsource.Current); got != current {
				return errors.New("current is " + got + ", want " + current)
			}
			if got := lookup(ctx, src, secretsource.Previous); got != previous {
				return errors.New("previous is " + got + ", want " + previous)
			}
			return nil
		}
	}
	eventually(t, has("one", smartcred.ErrNotFound.Error()))
	if err := secretsourcetest.Check(ctx, src); err != nil {
		t.Error(err)
	}
	pending, err := b.secrets.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId: made.ARN, SecretString: aws.String(`{"client_secret":"two"}`), VersionStages: []string{"AWSPENDING"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := has("one", smartcred.ErrNotFound.Error())(); err != nil {
		t.Errorf("with one pending: %v", err)
	}
	if _, err := b.secrets.UpdateSecretVersionStage(ctx, &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: made.ARN, VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: pending.VersionId, RemoveFromVersionId: made.VersionId,
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, has("two", "one"))
	if _, err := b.secrets.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{SecretId: made.ARN, RecoveryWindowInDays: aws.Int64(7)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, has(smartcred.ErrNotFound.Error(), smartcred.ErrNotFound.Error()))
}

// lookup returns a secret, or the kind of error that came in its place.
func lookup(ctx context.Context, src secretsource.Source, stage secretsource.Stage) string {
	secret, err := src.Lookup(ctx, stage)
	switch {
	case errors.Is(err, smartcred.ErrNotFound):
		return smartcred.ErrNotFound.Error()
	case err != nil:
		return err.Error()
	default:
		return string(secret.Reveal())
	}
}

// eventually waits for what AWS takes time to spread.
func eventually(t *testing.T, holds func() error) {
	t.Helper()
	deadline := time.Now().Add(spreads)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
