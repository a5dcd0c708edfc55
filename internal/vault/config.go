package vault

import (
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
)

// A Method is a way to log in to Vault.
type Method string

// The methods, as the auth option names them.
const (
	Token      Method = "token"
	AppRole    Method = "approle"
	Kubernetes Method = "kubernetes"
	JWT        Method = "jwt"
)

// kubernetesToken is where Kubernetes mounts a pod's service account token.
const kubernetesToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// connection are the options that say where Vault is; the others say how to log
// in there, each with the methods that it is for.
var connection = []string{"address", "namespace", "mount", "auth"}

var loginOptions = map[string][]Method{
	"auth_mount":             {AppRole, Kubernetes, JWT},
	"role":                   {AppRole, Kubernetes, JWT},
	"role_id":                {AppRole},
	"role_id_file":           {AppRole},
	"secret_id":              {AppRole},
	"secret_id_file":         {AppRole},
	"wrapped_secret_id":      {AppRole},
	"wrapped_secret_id_file": {AppRole},
	"token_file":             {Token},
	"jwt_file":               {Kubernetes, JWT},
}

// QueryOptions are the options that every Vault URI takes, in the order of the
// documentation.
func QueryOptions(more ...string) []string {
	return append(slices.Concat(connection, []string{
		"auth_mount", "role", "role_id", "role_id_file", "secret_id", "secret_id_file",
		"wrapped_secret_id", "wrapped_secret_id_file", "token_file", "jwt_file",
	}), more...)
}

// A Config is what a URI says about Vault. It holds no secret, only where they are.
type Config struct {
	Address   string // as in VAULT_ADDR
	Namespace string
	Auth      Method
	AuthMount string

	// ambient: Address is VAULT_ADDR's, so that the other VAULT_ variables hold for it.
	ambient bool
	from    string // the option or variable that Address comes from
	query   url.Values
}

// ParseConfig reads the options of a query that [secretsource.CheckQuery] passed.
func ParseConfig(query url.Values) (*Config, error) {
	c := &Config{Address: query.Get("address"), Namespace: query.Get("namespace"), query: query}
	for name, values := range query {
		if values[0] == "" {
			return nil, &smartcred.ConfigError{Option: name, Problem: "is empty"}
		}
	}
	if err := c.findAddress(); err != nil {
		return nil, err
	}
	if err := c.findMethod(); err != nil {
		return nil, err
	}
	c.AuthMount = strings.Trim(query.Get("auth_mount"), "/")
	if c.AuthMount == "" {
		c.AuthMount = string(c.Auth)
	}
	return c, c.checkMethod()
}

func (c *Config) findAddress() error {
	ambient := os.Getenv(api.EnvVaultAddress)
	c.from = "address"
	switch {
	case c.Address == "" && ambient == "":
		return &smartcred.ConfigError{Option: c.from, Problem: "says where Vault is: set VAULT_ADDR, or add address= to the URI"}
	case c.Address == "":
		c.Address, c.from = ambient, api.EnvVaultAddress
	}
	u, err := url.Parse(c.Address)
	switch {
	case err == nil && u.Scheme == "unix":
		return &smartcred.ConfigError{Option: c.from, Problem: "is a Unix socket, which is not spoken to: it is of the form https://HOST:PORT. A Vault Agent's token is used with token_file="}
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return &smartcred.ConfigError{Option: c.from, Problem: "is not of the form https://HOST:PORT"}
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	if u.Path == "/v1" {
		return &smartcred.ConfigError{Option: c.from, Problem: "ends in /v1, which is put behind it: leave it out"}
	}
	c.Address = u.String()
	c.ambient = sameServer(u, ambient)
	return nil
}

// sameServer reports whether an address is VAULT_ADDR's: behind one host, another
// path may be another Vault.
func sameServer(u *url.URL, ambient string) bool {
	v, err := url.Parse(ambient)
	return err == nil && strings.EqualFold(u.Scheme, v.Scheme) && strings.EqualFold(u.Host, v.Host) && u.Path == strings.TrimRight(v.Path, "/")
}

// findMethod takes the auth option, or what the other options and the
// environment leave no doubt about.
func (c *Config) findMethod() error {
	q := c.query
	c.Auth = Method(q.Get("auth"))
	switch c.Auth {
	case Token, AppRole, Kubernetes, JWT:
		return nil
	case "":
	default:
		return &smartcred.ConfigError{Option: "auth", Problem: "is none of token, approle, kubernetes, jwt"}
	}
	switch {
	case q.Has("role_id") || q.Has("role_id_file"):
		c.Auth = AppRole
	case q.Has("jwt_file") || q.Has("role"):
		return &smartcred.ConfigError{Option: "auth", Problem: "is missing: with role and jwt_file it is kubernetes or jwt"}
	default:
		c.Auth = Token
	}
	return nil
}

func (c *Config) checkMethod() error {
	q := c.query
	for name, methods := range loginOptions {
		if q.Has(name) && !slices.Contains(methods, c.Auth) {
			return &smartcred.ConfigError{Option: name, Problem: "does not go with auth=" + string(c.Auth)}
		}
	}
	one := func(purpose string, names ...string) error {
		var given []string
		for _, name := range names {
			if q.Has(name) {
				given = append(given, name)
			}
		}
		switch len(given) {
		case 1:
			return nil
		case 0:
			return &smartcred.ConfigError{Option: names[0], Problem: "is missing: " + purpose + " is named by " + strings.Join(names, " or ")}
		default:
			return &smartcred.ConfigError{Option: given[1], Problem: "can't be together with " + given[0]}
		}
	}
	switch c.Auth {
	case Token:
		if q.Has("token_file") {
			return nil
		}
		if os.Getenv(api.EnvVaultToken) == "" {
			return &smartcred.ConfigError{Option: "auth", Problem: "there is no token: set VAULT_TOKEN, name token_file=, or log in with auth=approle, kubernetes or jwt"}
		}
		if !c.ambient {
			return &smartcred.ConfigError{Option: "address", Problem: "is not VAULT_ADDR, and VAULT_TOKEN goes to VAULT_ADDR only: name token_file=, or log in with auth=approle, kubernetes or jwt"}
		}
		return nil
	case AppRole:
		if err := one("the role id", "role_id", "role_id_file"); err != nil {
			return err
		}
		return one("the secret id", "secret_id", "secret_id_file", "wrapped_secret_id", "wrapped_secret_id_file")
	default:
		if !q.Has("role") {
			return &smartcred.ConfigError{Option: "role", Problem: "is missing: auth=" + string(c.Auth) + " logs in to a role"}
		}
		if c.Auth == JWT && !q.Has("jwt_file") {
			return &smartcred.ConfigError{Option: "jwt_file", Problem: "is missing: auth=jwt sends the JWT in that file"}
		}
		return nil
	}
}

// Path returns the path that a URI names behind its scheme, mount and all, without
// slashes around it. Each segment was percent-decoded.
func Path(u *url.URL) (string, error) {
	path := strings.Trim(u.Host+u.Path, "/")
	if u.Opaque != "" || u.User != nil || path == "" || u.Port() != "" {
		return "", &smartcred.ConfigError{Problem: "not of the form " + u.Scheme + "://MOUNT/PATH"}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || strings.ContainsFunc(segment, func(r rune) bool { return r < ' ' || r == 0x7f || r == '?' || r == '#' || r == '%' }) {
			return "", &smartcred.ConfigError{Problem: "the path has an empty part, a dot or a character that no path of Vault has"}
		}
	}
	return path, nil
}
