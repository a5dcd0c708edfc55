package canary

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

const crashEnv = "SMARTCRED_CANARY_CRASH"

// A panicking is a provider, source and signer that ends the program.
type panicking struct{}

func (panicking) Lookup(context.Context, secretsource.Stage) (secretsource.Secret, error) {
	panic("own text")
}

func (panicking) Keys(context.Context) ([]signer.Key, error)               { panic("own text") }
func (panicking) Sign(context.Context, signer.Key, []byte) ([]byte, error) { panic("own text") }
func (panicking) Close() error                                             { panic("own text") }
func (panicking) Observe(context.Context, smartcred.Event)                 { panic("own text") }
func (panicking) Read([]byte) (int, error)                                 { panic("own text") }
func (panicking) Authenticate(_ context.Context, _ provider.Request, _ func(context.Context, provider.Credential) error) error {
	panic("own text")
}

// crashes are panics in the middle of work with secrets. What the runtime prints
// of them goes to logs.
var crashes = map[string]func(t *testing.T){
	"provider": func(t *testing.T) { crashToken(t, panicking{}, nil) },
	"source": func(t *testing.T) {
		p, err := provider.NewClientSecretPost(secretsource.List(secretsource.Static([]byte(clientSecret)), panicking{}), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = p.Authenticate(t.Context(), provider.Request{ClientID: "app", GrantType: "client_credentials"}, refusing)
	},
	"send": func(t *testing.T) {
		p, err := provider.NewClientSecretBasic(secretsource.Static([]byte(clientSecret)), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = p.Authenticate(t.Context(), provider.Request{ClientID: "app"}, func(context.Context, provider.Credential) error { panic("own text") })
	},
	"observer": func(t *testing.T) {
		p, err := provider.NewClientSecretBasic(secretsource.Static([]byte(clientSecret)), &provider.SecretOptions{Rotation: &provider.RotationOptions{Observer: panicking{}}})
		if err != nil {
			t.Fatal(err)
		}
		_ = p.Authenticate(t.Context(), provider.Request{ClientID: "app", GrantType: "client_credentials"}, refusing)
	},
	"signer": func(t *testing.T) {
		p, err := provider.NewPrivateKeyJWT(panicking{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		crashToken(t, p, nil)
	},
	"hook": func(t *testing.T) {
		crashToken(t, provider.Public{}, func(context.Context, smartauth.TokenRequest) (*smartauth.Token, error) { panic("own text") })
	},
	"store": func(t *testing.T) {
		w := newWatch()
		server := newEchoServer(t, w)
		server.handle(tokenAnswer)
		p, err := provider.NewClientSecretPost(twoSecrets(), nil)
		if err != nil {
			t.Fatal(err)
		}
		client := newClient(t, w, server, p, nil)
		held := heldToken(t)
		source := client.SessionSource(held, &smartauth.SessionOptions{Store: func(context.Context, *smartauth.Token) error { panic("own text") }})
		source.Drop(held)
		_, err = source.Token(t.Context())
		t.Log(err)
	},
	"nil error": func(t *testing.T) {
		secret := secretsource.New([]byte(clientSecret), "v")
		held := heldToken(t)
		panic(errors.Join(smartcred.ErrDenied, &smartcred.ConfigError{Problem: "own text", Err: smartcred.ErrNotFound}, io.EOF, errHolding{secret, held}))
	},
}

// errHolding is an error that has secrets in it.
type errHolding struct {
	secret secretsource.Secret
	token  *smartauth.Token
}

func (errHolding) Error() string { return "own text" }

func crashToken(t *testing.T, p provider.Provider, hook func(context.Context, smartauth.TokenRequest) (*smartauth.Token, error)) {
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: "https://127.0.0.1:1/r4", TokenEndpoint: "https://127.0.0.1:1/token", ClientID: "app", Scopes: []string{"system/*.rs"},
		Provider: p, PreTokenRequest: hook, Timeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = client.Token(t.Context())
}

// TestCrash is the program that ends by a panic; it does nothing but for testCrash.
func TestCrash(t *testing.T) {
	if crash := crashes[os.Getenv(crashEnv)]; crash != nil {
		crash(t)
		<-t.Context().Done() // the panic may be another goroutine's: it ends the program, not this
	}
}

func testCrash(t *testing.T) {
	w := newCommonWatch(t)
	for name := range crashes {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$", "-test.v")
		cmd.Env = append(os.Environ(), crashEnv+"="+name, "GOTRACEBACK=system")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "panic: ") {
			t.Errorf("%s: did not end by a panic:\n%s", name, out)
		}
		w.text("panic of "+name, string(out))
	}
}
