package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awskms"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
)

// kmsLatency is what the fake waits before it answers: less than the way to any
// KMS and back takes. The ratio without it, where the key is on loopback and
// nothing is encrypted, is printed too.
const kmsLatency = time.Millisecond

// kmsAssertions compares a whole authentication with a key in KMS with the bare
// call of the SDK in it, both against the same fake KMS on loopback, and counts
// the calls.
func kmsAssertions() ([]result, error) {
	var results []result
	for _, c := range []struct {
		alg     signer.Algorithm
		spec    string
		signing types.SigningAlgorithmSpec
	}{
		{signer.RS384, "RSA_2048", types.SigningAlgorithmSpecRsassaPkcs1V15Sha384},
		{signer.ES384, "ECC_NIST_P384", types.SigningAlgorithmSpecEcdsaSha384},
	} {
		aws := awsfake.New(nil)
		arn := aws.CreateKey(awsfake.Key{Spec: c.spec})
		aws.SetAlias("alias/smart", arn)
		of, err := kmsTimes(aws, arn, c.alg, c.signing)
		aws.Close()
		if err != nil {
			return nil, err
		}
		results = append(results, of...)
	}
	return results, nil
}

func kmsTimes(aws *awsfake.Server, arn string, alg signer.Algorithm, signing types.SigningAlgorithmSpec) ([]result, error) {
	network := &http.Transport{}
	defer network.CloseIdleConnections()
	client := kms.New(kms.Options{
		Region: awsfake.Region, BaseEndpoint: &aws.URL, HTTPClient: &http.Client{Transport: network},
		Credentials: credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, ""),
	})
	keys, err := awskms.New(client, "alias/smart", &awskms.Options{Observer: smartcred.Discard})
	if err != nil {
		return nil, err
	}
	p, err := jwtProvider(keys)
	if err != nil {
		return nil, err
	}
	defer p.Close()

	ctx := context.Background()
	request := provider.Request{ClientID: clientID, Server: fhirBase, URL: tokenURL, GrantType: "client_credentials"}
	authenticate := func(n int) {
		for range n {
			must(p.Authenticate(ctx, request, func(context.Context, provider.Credential) error { return nil }))
		}
	}
	authenticate(1) // the list of keys is read, and the key verified
	const assertions = 100
	aws.ResetCalls()
	authenticate(assertions)
	signs, all := aws.Calls("Sign"), len(aws.Requests())

	in := &kms.SignInput{KeyId: &arn, Message: alg.Digest([]byte("header.claims")), MessageType: types.MessageTypeDigest, SigningAlgorithm: signing}
	compare := func(rounds int) [][]float64 {
		return race(rounds,
			contender{"smartcred", authenticate},
			contender{"bare", func(n int) {
				for range n {
					_, err := client.Sign(ctx, in)
					must(err)
				}
			}},
		)
	}
	bare := compare(100)
	remove := aws.Inject(awsfake.Fault{Operation: "Sign", Delay: kmsLatency})
	defer remove()
	times := compare(200)
	return []result{
		against(string(alg)+" smartcred : bare kms.Sign, 1 ms away", times[0], times[1], 1.1),
		against(string(alg)+" the same, on loopback", bare[0], bare[1], unbounded),
		{
			what: string(alg) + " calls of AWS for an assertion", value: float64(all) / assertions, bound: 1,
			detail: fmt.Sprintf("%d of Sign for %d assertions", signs, assertions),
		},
	}, nil
}
