package secretsource_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "smart"), []byte("s3cr3t\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	src, err := secretsource.Open(ctx, "file:smart", &secretsource.OpenOptions{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	cache := secretsource.NewCache(src, nil)
	defer cache.Close()

	secret, err := cache.Lookup(ctx, secretsource.Current)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("in a log:", secret)
	fmt.Println("for a request:", len(secret.Reveal()), "bytes")
	// Output:
	// in a log: [redacted]
	// for a request: 6 bytes
}

func ExampleField() {
	whole := secretsource.Static([]byte(`{"client_id":"my-app","client_secret":"s3cr3t"}`))
	secret, err := secretsource.Field(whole, "client_secret").Lookup(context.Background(), secretsource.Current)
	fmt.Printf("%s %v %v\n", secret.Reveal(), secret, err)
	// Output: s3cr3t [redacted] <nil>
}

func ExampleList() {
	src := secretsource.List(
		secretsource.Static([]byte("new")),
		secretsource.Static([]byte("old")),
	)
	for _, stage := range []secretsource.Stage{secretsource.Current, secretsource.Previous} {
		secret, err := src.Lookup(context.Background(), stage)
		fmt.Printf("%s: %s %v\n", stage, secret.Reveal(), err)
	}
	// Output:
	// current: new <nil>
	// previous: old <nil>
}

// A safe is a backend of one's own: it implements Source, and nothing else.
type safe struct{ shelf string }

func (s safe) Lookup(ctx context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	if err := ctx.Err(); err != nil {
		return secretsource.Secret{}, err
	}
	if stage != secretsource.Current {
		return secretsource.Secret{}, smartcred.ErrNotFound
	}
	return secretsource.New([]byte("value on "+s.shelf), "3"), nil
}

func ExampleRegister() {
	// In an init function, as a rule.
	secretsource.Register("example-safe", func(_ context.Context, uri *url.URL, _ *secretsource.OpenOptions) (secretsource.Source, error) {
		options, err := secretsource.CheckQuery(uri, "shelf")
		if err != nil {
			return nil, err
		}
		var src secretsource.Source = safe{shelf: options.Get("shelf")}
		if uri.Fragment != "" {
			src = secretsource.Field(src, uri.Fragment)
		}
		return src, nil
	})

	src, err := secretsource.Open(context.Background(), "example-safe://house/smart?shelf=top", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	secret, err := src.Lookup(context.Background(), secretsource.Current)
	fmt.Println(secret.Version, string(secret.Reveal()), err)
	// Output: 3 value on top <nil>
}

// A secret put in the place of its reference does not reach the log.
func ExampleOpen_mistake() {
	_, err := secretsource.Open(context.Background(), "the-secret-itself", nil)
	fmt.Println(errors.Is(err, smartcred.ErrInvalidConfig))
	fmt.Println(strings.Contains(err.Error(), "the-secret-itself"))
	// Output:
	// true
	// false
}
