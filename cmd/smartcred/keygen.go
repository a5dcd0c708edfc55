package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/youmark/pkcs8"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

const defaultBits = 3072

func (a *app) keygen() *cobra.Command {
	var alg, out string
	var bits int
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a private key",
		Long: `Keygen makes a private key, writes it as PKCS #8 PEM to a file that only this
user may read, and prints the public JWK Set to register at the server. It
never overwrites a file.`,
		Example: `  smartcred keygen --alg ES384 --out key.pem > jwks.json`,
		Args:    noArguments,
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&alg, "alg", "", "ES384, or RS384 for servers that take no elliptic curves")
	cmd.Flags().StringVar(&out, "out", "", "`file` to make")
	cmd.Flags().IntVar(&bits, "bits", defaultBits, "size of an RS384 key: 2048, 3072 or 4096")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkKeygen(alg, out, bits, cmd.Flags().Changed("bits")); err != nil {
			return err
		}
		key, err := generate(signer.Algorithm(alg), bits)
		if err != nil {
			return err
		}
		kid, set, err := publicSet(key.Public(), signer.Algorithm(alg))
		if err != nil {
			return err
		}
		switch err := writeKey(out, key, nil); {
		case isThere(err):
			return &smartcred.ConfigError{Option: "--out", Problem: "is there already, and a key is never overwritten: name another file"}
		case err != nil:
			return &smartcred.ConfigError{Option: "--out", Problem: "the file can't be written", Err: err}
		}
		if err := a.print(set); err != nil {
			return err // the key is made; smartcred jwks prints the set again
		}
		a.messages.line("made %s: %s, kid %s", out, alg, kid)
		a.messages.line("next: register the JWK Set on standard output at the server, or serve it: smartcred jwks serve --signer file:%s", out)
		a.messages.line("then: smartcred token --signer file:%s --client-id ... --base-url ... --scopes ...", out)
		return nil
	}
	return cmd
}

func checkKeygen(alg, out string, bits int, sized bool) error {
	var problems []error
	bad := func(option, problem string) {
		problems = append(problems, &smartcred.ConfigError{Option: option, Problem: problem})
	}
	switch signer.Algorithm(alg) {
	case signer.RS384:
		if !slices.Contains([]int{2048, 3072, 4096}, bits) {
			bad("--bits", "is not 2048, 3072 or 4096")
		}
	case signer.ES384:
		if sized {
			bad("--bits", "is for RS384 only")
		}
	default:
		bad("--alg", "is neither ES384 nor RS384")
	}
	if out == "" {
		bad("--out", "is missing: name the file to make")
	}
	return errors.Join(problems...)
}

func generate(alg signer.Algorithm, bits int) (crypto.Signer, error) {
	switch alg {
	case signer.ES384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case signer.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		return rsa.GenerateKey(rand.Reader, bits)
	}
}

// publicSet is the JWK Set of one key, and its kid.
func publicSet(public crypto.PublicKey, alg signer.Algorithm) (kid string, set []byte, err error) {
	if kid, err = signer.Thumbprint(public); err != nil {
		return "", nil, err
	}
	keys, err := signer.PublicJWKSet([]signer.Key{{ID: kid, Algorithm: alg, Public: public}})
	if err != nil {
		return "", nil, err
	}
	set, err = indented(keys)
	return kid, set, err
}

// writeKey makes a file that was not there, encrypted if there is a passphrase. A
// part of one is taken away again.
func writeKey(path string, key crypto.Signer, passphrase []byte) error {
	block := &pem.Block{Type: "PRIVATE KEY"}
	var err error
	if len(passphrase) > 0 {
		block.Type = "ENCRYPTED PRIVATE KEY"
		block.Bytes, err = pkcs8.MarshalPrivateKey(key, passphrase, &encryption)
	} else {
		block.Bytes, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := writeSync(file, pem.EncodeToMemory(block)); err != nil {
		_ = os.Remove(path)
		return err
	}
	return nil
}

// encryption is what openssl pkcs8 -topk8 -v2 aes-256-cbc writes, with as many
// rounds as OWASP asks for.
var encryption = pkcs8.Opts{
	Cipher:  pkcs8.AES256CBC,
	KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 600_000, HMACHash: crypto.SHA256},
}

func isThere(err error) bool { return errors.Is(err, fs.ErrExist) }
