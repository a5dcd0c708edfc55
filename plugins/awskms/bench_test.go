package awskms_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awskms"
	"github.com/smartcred/smartcred/signer"
)

// A signature, and the bare call of the SDK in it.
func BenchmarkSign(b *testing.B) {
	fake := awsfake.New(nil)
	b.Cleanup(fake.Close)
	arn := fake.CreateKey(awsfake.Key{})
	api := client(fake)
	s, err := awskms.New(api, arn, &awskms.Options{Observer: smartcred.Discard})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	keys, err := s.Keys(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	input := []byte("header.claims")
	b.Run("smartcred", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Sign(b.Context(), keys[0], input); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			_, err := api.Sign(b.Context(), &kms.SignInput{
				KeyId: &arn, Message: signer.ES384.Digest(input), MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha384,
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
