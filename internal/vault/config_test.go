package vault

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

func clearEnvironment(t testing.TB) {
	for _, name := range []string{"VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "VAULT_SKIP_VERIFY", "VAULT_CACERT", "VAULT_AGENT_ADDR", "VAULT_HEADERS"} {
		t.Setenv(name, "")
	}
}

func TestParseConfig(t *testing.T) {
	for name, c := range map[string]struct {
		env   map[string]string
		query string
		want  Config
		wants string // the error
	}{
		"environment":             {env: map[string]string{"VAULT_ADDR": "https://v:8200", "VAULT_TOKEN": "x"}, want: Config{Address: "https://v:8200", Auth: Token, AuthMount: "token", ambient: true}},
		"token file":              {query: "address=https://v:8200/&token_file=/run/t&namespace=a/b", want: Config{Address: "https://v:8200", Namespace: "a/b", Auth: Token, AuthMount: "token"}},
		"approle implied":         {query: "address=https://v&role_id=r&secret_id_file=s", want: Config{Address: "https://v", Auth: AppRole, AuthMount: "approle"}},
		"approle at a mount":      {query: "address=https://v&auth=approle&auth_mount=/x/y/&role_id_file=r&wrapped_secret_id_file=s&role=z", want: Config{Address: "https://v", Auth: AppRole, AuthMount: "x/y"}},
		"kubernetes":              {query: "address=https://v&auth=kubernetes&role=r", want: Config{Address: "https://v", Auth: Kubernetes, AuthMount: "kubernetes"}},
		"jwt":                     {query: "address=https://v&auth=jwt&role=r&jwt_file=f", want: Config{Address: "https://v", Auth: JWT, AuthMount: "jwt"}},
		"same address":            {env: map[string]string{"VAULT_ADDR": "https://V:8200", "VAULT_TOKEN": "x"}, query: "address=https://v:8200", want: Config{Address: "https://v:8200", Auth: Token, AuthMount: "token", ambient: true}},
		"no address":              {wants: "set VAULT_ADDR"},
		"no token":                {env: map[string]string{"VAULT_ADDR": "https://v"}, wants: "there is no token"},
		"token goes to its own":   {env: map[string]string{"VAULT_ADDR": "https://v", "VAULT_TOKEN": "x"}, query: "address=https://w", wants: "VAULT_TOKEN goes to VAULT_ADDR only"},
		"token without address":   {env: map[string]string{"VAULT_TOKEN": "x"}, query: "address=https://w", wants: "VAULT_TOKEN goes to VAULT_ADDR only"},
		"user in the address":     {query: "address=https://u:p@v&token_file=x", wants: "is not of the form https://HOST:PORT"},
		"unknown method":          {query: "address=https://v&auth=ldap", wants: "is none of token, approle, kubernetes, jwt"},
		"no role id":              {query: "address=https://v&auth=approle&secret_id_file=s", wants: "role_id or role_id_file"},
		"two secret ids":          {query: "address=https://v&role_id=r&secret_id_file=s&secret_id=env%3AX", wants: "can't be together with"},
		"no secret id":            {query: "address=https://v&role_id=r", wants: "secret_id or secret_id_file"},
		"option of another":       {query: "address=https://v&auth=kubernetes&role=r&secret_id_file=s", wants: "secret_id_file: does not go with auth=kubernetes"},
		"jwt without file":        {query: "address=https://v&auth=jwt&role=r", wants: "jwt_file"},
		"kubernetes without role": {query: "address=https://v&auth=kubernetes", wants: "role"},
		"role alone":              {query: "address=https://v&role=r", wants: "it is kubernetes or jwt"},
		"empty":                   {query: "address=https://v&auth=", wants: "auth: is empty"},
		"slashes at the end":      {env: map[string]string{"VAULT_ADDR": "https://v:8200//", "VAULT_TOKEN": "x"}, want: Config{Address: "https://v:8200", Auth: Token, AuthMount: "token", ambient: true}},
		"path":                    {env: map[string]string{"VAULT_ADDR": "https://v/a/", "VAULT_TOKEN": "x"}, query: "address=https://v/a", want: Config{Address: "https://v/a", Auth: Token, AuthMount: "token", ambient: true}},
		"token, another path":     {env: map[string]string{"VAULT_ADDR": "https://v/a", "VAULT_TOKEN": "x"}, query: "address=https://v/b", wants: "VAULT_TOKEN goes to VAULT_ADDR only"},
		"path of the API":         {env: map[string]string{"VAULT_ADDR": "https://v/v1/", "VAULT_TOKEN": "x"}, wants: "VAULT_ADDR: ends in /v1"},
		"socket":                  {env: map[string]string{"VAULT_ADDR": "unix:///run/vault", "VAULT_TOKEN": "x"}, wants: "VAULT_ADDR: is a Unix socket"},
		"variable at fault":       {env: map[string]string{"VAULT_ADDR": "v:8200", "VAULT_TOKEN": "x"}, wants: "VAULT_ADDR: is not of the form https://HOST:PORT"},
		"not a web address":       {query: "address=ftp://v&token_file=x", wants: "address: is not of the form https://HOST:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			clearEnvironment(t)
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			query, err := url.ParseQuery(c.query)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseConfig(query)
			if c.wants != "" {
				if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), c.wants) {
					t.Errorf("%v; want %q", err, c.wants)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got.query = nil
			if got.Address != c.want.Address || got.Namespace != c.want.Namespace || got.Auth != c.want.Auth || got.AuthMount != c.want.AuthMount || got.ambient != c.want.ambient {
				t.Errorf("got %+v, want %+v", *got, c.want)
			}
		})
	}
}

func TestPath(t *testing.T) {
	for uri, want := range map[string]string{
		"vault-kv://secret/team/app":   "secret/team/app",
		"vault-kv://secret/a%20b/":     "secret/a b",
		"vault-kv:///secret/x":         "secret/x",
		"vault-kv://secret":            "secret",
		"vault-kv://secret/a/../b":     "",
		"vault-kv://secret//x":         "",
		"vault-kv://secret/a%3Fb":      "",
		"vault-kv://u:p@secret/x":      "",
		"vault-kv://secret:80/x":       "",
		"vault-kv:secret/x":            "",
		"vault-kv://":                  "",
		"vault-kv://secret/a%252Fb":    "",
		"vault-kv://secret/a%00b":      "",
		"vault-kv://secret/%2E%2E/sys": "",
	} {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Path(u)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", uri, got, err, want)
		}
	}
}

// Of VAULT_ variables that are credentials or choose where they go, none reaches
// another address, and no address is spoken to in plain text unasked.
func TestClientOfAnotherAddress(t *testing.T) {
	clearEnvironment(t)
	for name, value := range map[string]string{
		"VAULT_ADDR": "https://ambient", "VAULT_TOKEN": "ambient-token", "VAULT_NAMESPACE": "ambient", "VAULT_HEADERS": `{"X-Gate":"ambient-gate"}`, "VAULT_AGENT_ADDR": "http://127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	opts := &secretsource.OpenOptions{}
	for address, ambient := range map[string]bool{"https://other": false, "https://ambient": true} {
		c, err := ParseConfig(url.Values{"address": {address}, "token_file": {"x"}})
		if err != nil {
			t.Fatal(err)
		}
		client, err := c.newClient(opts)
		if err != nil {
			t.Fatal(err)
		}
		if client.Token() != "" || client.Address() != address {
			t.Errorf("%s: client has a token, or another address %s", address, client.Address())
		}
		if got := client.Namespace() == "ambient" && client.Headers().Get("X-Gate") != ""; got != ambient {
			t.Errorf("%s: namespace %q, headers %v", address, client.Namespace(), slices.Sorted(maps.Keys(client.Headers())))
		}
	}
	for address, ok := range map[string]bool{"http://10.0.0.1:8200": false, "http://127.0.0.1:8200": true, "http://localhost": true, "http://[::1]:8200": true} {
		c := &Config{Address: address}
		if _, err := c.newClient(&secretsource.OpenOptions{AllowInsecureLoopback: true}); (err == nil) != ok {
			t.Errorf("%s, loopback allowed: %v", address, err)
		}
		if _, err := c.newClient(opts); err == nil {
			t.Errorf("%s was taken", address)
		}
	}
	t.Setenv("VAULT_SKIP_VERIFY", "true")
	c := &Config{Address: "https://ambient"}
	if _, err := c.newClient(opts); err == nil || !strings.Contains(err.Error(), "insecure_backend_tls") {
		t.Errorf("VAULT_SKIP_VERIFY was taken: %v", err)
	}
	if _, err := c.newClient(&secretsource.OpenOptions{InsecureBackendTLS: true}); err != nil {
		t.Error(err)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, seed := range []string{"", "address=https://v&auth=approle&role_id=r&secret_id=env%3AX", "address=https://v&auth=jwt&role=r&jwt_file=f", "address=%zz", "auth=token&token_file=x&address=https://[::1]:8200"} {
		f.Add(seed)
	}
	clearEnvironment(f)
	f.Fuzz(func(t *testing.T, text string) {
		u := &url.URL{RawQuery: text}
		query, err := secretsource.CheckQuery(u, QueryOptions()...)
		if err != nil {
			return
		}
		c, err := ParseConfig(query)
		if err != nil {
			if !errors.Is(err, smartcred.ErrInvalidConfig) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if c.ambient || !strings.HasPrefix(c.Address, "http") || c.AuthMount == "" {
			t.Errorf("%q: %+v", text, c)
		}
	})
}
