package secretrotator_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// A console is a Setter for an EHR with an interface of its own.
type console struct{ ehr *smartauthtest.Server }

func (c console) Set(_ context.Context, change secretrotator.Change) error {
	// The server takes both, until the old one is removed there.
	c.ehr.SetSecrets("my-app", string(change.Pending.Reveal()), string(change.Current.Reveal()))
	return nil
}

// A Setter of one's own, with a fake AWS and a server for tests in the place of
// real ones.
func Example() {
	ehr, err := smartauthtest.Start(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ehr.Close()
	ehr.AddClient(smartauthtest.Client{ID: "my-app", Secrets: []string{"old"}})
	aws := awsfake.New(nil)
	defer aws.Close()
	aws.CreateSecret("smart/my-app", "old")
	client := secretsmanager.New(secretsmanager.Options{
		Region: awsfake.Region, BaseEndpoint: &aws.URL,
		Credentials: credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, ""),
	})

	test, err := secretrotator.NewTokenTest(smartauth.Config{
		BaseURL: ehr.URL, ClientID: "my-app", Scopes: []string{smartauth.ScopeSystemRead},
		AllowInsecureLoopback: true, Observer: smartcred.Discard,
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := secretrotator.New(client, console{ehr}, test, &secretrotator.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	// In Lambda: lambda.Start(r.Handle)
	version, err := r.Rotate(context.Background(), "smart/my-app")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("current is the new version:", aws.Version("smart/my-app", awsfake.Current) == version)
	fmt.Println("previous:", aws.SecretString("smart/my-app", awsfake.Previous))
	// Output:
	// current is the new version: true
	// previous: old
}
