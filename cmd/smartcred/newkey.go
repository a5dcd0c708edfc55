package main

import (
	"context"
	"crypto"
	"crypto/rsa"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

func (a *app) newKey() *cobra.Command {
	var alg string
	cmd := &cobra.Command{
		Use:   "new-key",
		Short: "Make the next key, to be published before it signs",
		Long: `New-key makes the key that follows the current one, for signers that are files:
PATH.next, mode 0600, with the same algorithm, encrypted if the signer has a
passphrase. It never overwrites a file. It prints the JWK Set to register: the
next key and those in use. Running processes publish the next key within a minute
and do not sign with it until smartcred rotation activate.`,
		Example: `  smartcred rotation new-key --config smartcred.yaml > jwks.json`,
	}
	cmd.Flags().StringVar(&alg, "alg", "", "ES384 or RS384 (default: as the current key)")
	a.withConfiguration(cmd, needNewKey, func(ctx context.Context, o *session) error {
		path, err := o.keyPath()
		if err != nil {
			return err
		}
		if o.keyID != "" {
			return &smartcred.ConfigError{Option: "key_id", Problem: "names the only key, and there would be two: leave it out, or keep the name by writing the key as a JWK with that kid"}
		}
		current, _, err := o.theCurrent(ctx)
		if err != nil {
			return err
		}
		algorithm, bits, err := o.nextAlgorithm(alg, current)
		if err != nil {
			return err
		}
		key, err := o.makeNext(ctx, path+suffixNext, algorithm, bits)
		if err != nil {
			return err
		}
		published, err := o.published(ctx) // as read before the file was there
		if err != nil {
			return err
		}
		published = slices.DeleteFunc(published, func(k signer.Key) bool { return k.ID == key.ID })
		set, err := signer.PublicJWKSet(append([]signer.Key{key}, published...))
		if err != nil {
			return err
		}
		if err := a.printJSON(set); err != nil {
			return err // the key is made; smartcred jwks prints the set again
		}
		a.nextSteps(o, path, key)
		return nil
	})
	return cmd
}

// nextAlgorithm is what the next key signs with, and the size of an RSA key.
func (o *session) nextAlgorithm(asked string, current signer.Key) (signer.Algorithm, int, error) {
	algorithm := current.Algorithm
	switch signer.Algorithm(asked) {
	case "":
	case signer.ES384, signer.RS384:
		algorithm = signer.Algorithm(asked)
	default:
		return "", 0, &smartcred.ConfigError{Option: "--alg", Problem: "is neither ES384 nor RS384"}
	}
	if o.algorithm != "" && algorithm != o.algorithm {
		return "", 0, &smartcred.ConfigError{Option: "--alg", Problem: "is not the algorithm that the configuration names: change that first"}
	}
	bits := defaultBits
	if public, ok := current.Public.(*rsa.PublicKey); ok {
		bits = max(bits, public.N.BitLen())
	}
	return algorithm, bits, nil
}

// makeNext makes a key in a new file, and returns its public half.
func (o *session) makeNext(ctx context.Context, path string, algorithm signer.Algorithm, bits int) (signer.Key, error) {
	passphrase, err := o.passphrase(ctx)
	if err != nil {
		return signer.Key{}, err
	}
	private, err := generate(algorithm, bits)
	if err != nil {
		return signer.Key{}, err
	}
	kid, err := signer.Thumbprint(private.Public())
	if err != nil {
		return signer.Key{}, err
	}
	err = writeKey(path, private, passphrase)
	if isThere(err) {
		return signer.Key{}, &smartcred.ConfigError{Problem: path + " is there already: smartcred rotation activate makes it the current key, smartcred rotation revoke next removes it"}
	}
	if err != nil {
		return signer.Key{}, &smartcred.ConfigError{Problem: path + " can't be written", Err: err}
	}
	return signer.Key{ID: kid, Algorithm: algorithm, Public: crypto.PublicKey(private.Public())}, nil
}

// passphrase returns what the signer's keys are encrypted with; nil if they are not.
func (o *session) passphrase(ctx context.Context) ([]byte, error) {
	uri := query(o.settings.signer).Get("passphrase-source")
	if uri == "" {
		return nil, nil
	}
	opts := o.openOptions("signer")
	source, err := secretsource.Open(ctx, uri, &opts)
	if err != nil {
		return nil, openError("signer", "open passphrase source", err)
	}
	defer closing(source)
	secret, err := source.Lookup(ctx, secretsource.Current)
	if err != nil {
		return nil, &provider.CredentialError{Op: "look up passphrase", Err: err}
	}
	return secret.Reveal(), nil
}

func (a *app) nextSteps(o *session, path string, key signer.Key) {
	from := time.Now().Add(o.publishFor)
	a.messages.line("made %s%s: %s, kid %s", path, suffixNext, key.Algorithm, key.ID)
	if o.jwksURL != "" {
		a.messages.line("next: see that %s shows it; processes that serve the set do so within a minute", o.jwksURL)
	} else {
		a.messages.line("next: register the JWK Set on standard output at the server")
	}
	a.messages.line("then, from %s on (publish_for %s, so that no server's copy of the set lacks it): smartcred rotation activate", when(from), plainDuration(o.publishFor))
}

// when is a time for people: to the second, in UTC.
func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// plainDuration leaves out what is zero: 24h, not 24h0m0s.
func plainDuration(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return d.String()
	}
}
