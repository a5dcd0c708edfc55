package main

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/smartcred/smartcred/provider"
)

// elsewhere returns what to run where a step of a rotation is the backend's own
// to make, and the option that names the backend; empty where smartcred makes it.
func (s *settings) elsewhere(needs need) (option, advice string) {
	step := needs & (needNewKey | needActivate | needRevoke)
	if step == 0 {
		return "", ""
	}
	option, uri := "signer", s.signer
	if step == needRevoke && s.method() != provider.MethodPrivateKeyJWT {
		option = "secret"
		if len(s.secret) != 1 {
			return option, several(s.secret)
		}
		uri = s.secret[0]
	}
	scheme, rest, found := strings.Cut(uri, ":")
	if !found {
		return "", "" // not a URI, which opening it says better
	}
	u, err := url.Parse(uri)
	if err != nil {
		return "", ""
	}
	path := cmp.Or(strings.Trim(u.Host+u.Path, "/"), u.Opaque)
	scheme = strings.ToLower(scheme)
	mount, name := divide(scheme, path, strings.Trim(u.Query().Get("mount"), "/"))
	switch scheme {
	case "env":
		return option, "an environment is changed where the process is started: take " + rest + "_PREVIOUS out of it, or add the version to revoked, which needs state_file; then start the process again"
	case "vault-transit":
		return option, pick(step,
			"Vault makes the key: run vault write -f "+mount+"/keys/"+name+"/rotate",
			"with jwks_url set, a new version signs by itself after publish_for; without, register it at the server, then name it: signer: vault-transit://"+path+"?version=N",
			"Vault does it: run vault write "+mount+"/keys/"+name+"/config min_encryption_version=N, N being the first version that may still sign")
	case "awskms":
		return option, pick(step,
			"AWS KMS makes the key: run aws kms create-key --key-usage SIGN_VERIFY --key-spec ECC_NIST_P384, and give it the alias that next= names in signer, or name it there",
			"AWS KMS does it: run aws kms update-alias --alias-name NAME --target-key-id NEXT, and give the former key the alias that previous= names in signer, or name it there",
			"AWS KMS does it: run aws kms disable-key --key-id KEY")
	case "pkcs11":
		return option, pick(step,
			"the HSM makes the key: run pkcs11-tool --login --keypairgen --key-type EC:secp384r1 --label NEXT, and name it with next= in signer",
			"name the next key as signer and the present one with previous=",
			"take the key out of signer, then run pkcs11-tool --login --delete-object --type privkey --label KEY")
	case "vault-kv":
		return option, "Vault does it: run vault kv destroy -mount=" + mount + " -versions=N " + name
	case "awssecretsmanager":
		return option, "AWS Secrets Manager does it: run aws secretsmanager update-secret-version-stage --secret-id " + path + " --version-stage AWSPREVIOUS --remove-from-version-id VERSION"
	case "plugin":
		return option, "the plugin's own backend does it: see its documentation"
	default:
		return "", ""
	}
}

// divide tells a Vault path's mount from what is in it: mount says where, else a
// key is the last part, and a secret what follows the first.
func divide(scheme, path, mount string) (string, string) {
	if rest, ok := strings.CutPrefix(path, mount+"/"); ok && mount != "" {
		return mount, rest
	}
	i := strings.LastIndexByte(path, '/')
	if scheme == "vault-kv" {
		i = strings.IndexByte(path, '/')
	}
	if i < 0 {
		return path, "NAME"
	}
	return path[:i], path[i+1:]
}

func pick(step need, newKey, activate, revoke string) string {
	switch step {
	case needNewKey:
		return newKey
	case needActivate:
		return activate
	default:
		return revoke
	}
}

// several says how a part of a list is taken out of use.
func several(uris []string) string {
	if len(uris) == 0 {
		return "" // that it is missing is said
	}
	return "is a list: take the entry out of it, or add the version to revoked, which needs state_file"
}
