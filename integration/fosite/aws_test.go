package fosite_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/fositetest"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awskms"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// The tests of both grants log in with keys in KMS and a secret in Secrets Manager too.
func init() {
	logins = append(logins,
		login{"private_key_jwt RS384 in KMS", provider.MethodPrivateKeyJWT, loginByKMS(signer.RS384)},
		login{"private_key_jwt ES384 in KMS", provider.MethodPrivateKeyJWT, loginByKMS(signer.ES384)},
		login{"client_secret_basic in Secrets Manager", provider.MethodClientSecretBasic, loginBySecretsManager},
	)
}

var keySpecs = map[signer.Algorithm]string{signer.RS384: "RSA_2048", signer.ES384: "ECC_NIST_P384"}

func newAWS(t *testing.T) *awsfake.Server {
	t.Helper()
	aws := awsfake.New(nil)
	t.Cleanup(aws.Close)
	return aws
}

func kmsSigner(t *testing.T, aws *awsfake.Server, key string, opts awskms.Options) signer.Signer {
	t.Helper()
	opts.Observer = smartcred.Discard
	client := kms.New(kms.Options{
		Region: awsfake.Region, BaseEndpoint: &aws.URL,
		Credentials: credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, ""),
	})
	s, err := awskms.New(client, key, &opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func secretsManager(t *testing.T, aws *awsfake.Server, name string) secretsource.Source {
	t.Helper()
	client := secretsmanager.New(secretsmanager.Options{
		Region: awsfake.Region, BaseEndpoint: &aws.URL,
		Credentials: credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, ""),
	})
	src, err := awssecretsmanager.New(client, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func loginByKMS(alg signer.Algorithm) func(*testing.T, *fositetest.Server, string) provider.Provider {
	return func(t *testing.T, s *fositetest.Server, id string) provider.Provider {
		aws := newAWS(t)
		aws.SetAlias("alias/smart", aws.CreateKey(awsfake.Key{Spec: keySpecs[alg]}))
		p := jwtProvider(t, kmsSigner(t, aws, "alias/smart", awskms.Options{}), provider.PrivateKeyJWTOptions{})
		registerKeys(t, s, id, alg, p)
		return p
	}
}

func loginBySecretsManager(t *testing.T, s *fositetest.Server, id string) provider.Provider {
	aws := newAWS(t)
	aws.CreateSecret("smart/app", secret)
	registerSecret(t, s, id, provider.MethodClientSecretBasic, secret)
	return secretProvider(t, provider.MethodClientSecretBasic, secretsManager(t, aws, "smart/app"), "")
}

// The supported way, with 100 callers: next is named and registered, then the
// alias is moved, then the former key goes.
func TestAliasRotation(t *testing.T) {
	s, aws := fositetest.NewServer(t, true), newAWS(t)
	old, next := aws.CreateKey(awsfake.Key{}), aws.CreateKey(awsfake.Key{})
	aws.SetAlias("alias/smart", old)
	p, err := provider.NewPrivateKeyJWT(kmsSigner(t, aws, "alias/smart", awskms.Options{Next: []string{next}}), &provider.PrivateKeyJWTOptions{
		KeySet:   &signer.KeySetOptions{Refresh: 100 * time.Millisecond, Observer: smartcred.Discard},
		Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	closeWith(t, p)
	registerPublished(t, s, signer.ES384, p, 2) // next and current
	c := startCallers(t, s, newClient(t, s, "app", p, fositetest.SystemScopes), 100)
	c.await(t, func() bool { return p.Status(t.Context(), "app", s.FHIRBase()).InForce.Version == old })
	aws.SetAlias("alias/smart", next)
	c.await(t, func() bool { return p.Status(t.Context(), "app", s.FHIRBase()).InForce.Version == next })
	aws.SetKeyState(old, awsfake.Disabled)
	registerPublished(t, s, signer.ES384, p, 1)
	c.finish(t, s)
}

// A secret goes through its stages under 100 callers: pending, current, previous.
func TestStageRotation(t *testing.T) {
	s, aws := fositetest.NewServer(t, true), newAWS(t)
	aws.CreateSecret("smart/app", "first")
	registerSecrets(t, s, "app", provider.MethodClientSecretBasic, "first")
	p, err := provider.New(provider.Config{
		Method: provider.MethodClientSecretBasic, Secret: secretsManager(t, aws, "smart/app"),
		SecretOptions: &provider.SecretOptions{
			Cache:    &secretsource.CacheOptions{TTL: 50 * time.Millisecond, Observer: smartcred.Discard},
			Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	rotator := p.(provider.Rotator)
	c := startCallers(t, s, newClient(t, s, "app", p, fositetest.SystemScopes), 100)
	c.await(t, func() bool { return true })
	pending := aws.StageSecret("smart/app", "second", awsfake.Pending)
	registerSecrets(t, s, "app", provider.MethodClientSecretBasic, "second", "first")
	aws.MoveStage("smart/app", awsfake.Current, pending)
	c.await(t, func() bool { return rotator.Status(t.Context(), "app", s.FHIRBase()).InForce.Version == pending })
	registerSecrets(t, s, "app", provider.MethodClientSecretBasic, "second")
	c.finish(t, s)
}
