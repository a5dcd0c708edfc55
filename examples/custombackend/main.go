// Command custombackend uses a backend that is not smartcred's: keyhouse, in the
// folder of that name, by its URI, over the key service in the folder service. It
// looks a client secret up, signs an assertion with a key that stays in the
// service, and rotates both:
//
//	go run ./examples/custombackend
package main

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strings"

	_ "github.com/smartcred/smartcred/examples/custombackend/keyhouse" // keyhouse: URIs
	"github.com/smartcred/smartcred/examples/custombackend/service"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "custombackend:", err)
		os.Exit(1)
	}
}

const token = "the-example's-token"

func run(ctx context.Context, w io.Writer) error {
	house := service.New(token)
	srv := httptest.NewServer(house.Handler())
	defer srv.Close()
	if err := os.Setenv("KEYHOUSE_TOKEN", token); err != nil {
		return err
	}
	uri := strings.Replace(srv.URL, "http:", "keyhouse:", 1) + "/my-app?token-source=env%3AKEYHOUSE_TOKEN"
	opts := secretsource.OpenOptions{AllowInsecureLoopback: true}

	src, err := secretsource.Open(ctx, uri, &opts)
	if err != nil {
		return err
	}
	defer src.(io.Closer).Close()
	sgn, err := signer.Open(ctx, uri, &signer.OpenOptions{OpenOptions: opts})
	if err != nil {
		return err
	}
	defer sgn.(io.Closer).Close()

	for _, value := range []string{"first secret", "second secret"} {
		house.SetSecret("my-app", value)
		if err := house.NewKey("my-app"); err != nil {
			return err
		}
		secret, err := src.Lookup(ctx, secretsource.Current)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "secret %s, version %s\n", secret, secret.Version)
		keys, err := sgn.Keys(ctx)
		if err != nil {
			return err
		}
		assertion := signer.Assertion{ClientID: "my-app", Audience: "https://auth.example.com/token"}
		if _, _, err := assertion.Sign(ctx, sgn, keys[0]); err != nil {
			return err
		}
		fmt.Fprintf(w, "assertion signed by key version %s of %d, %s, %s\n", keys[0].Version, len(keys), keys[0].Algorithm, keys[0].Custody.Level)
	}
	return nil
}
