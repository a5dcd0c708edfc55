// Command plugin is keyhouse as a plugin program, for smartcred's command line,
// which does not have it built in:
//
//	go build -o /usr/local/libexec/smartcred-plugin-keyhouse ./examples/custombackend/plugin
//
//	signer: plugin://keyhouse/app?server=keys.example.com&token-source=env%3AKEYHOUSE_TOKEN
//	plugins:
//	  keyhouse: {path: /usr/local/libexec/smartcred-plugin-keyhouse, sha256: …, env: [KEYHOUSE_TOKEN]}
package main

import (
	"context"
	"net/url"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/examples/custombackend/keyhouse"
	"github.com/smartcred/smartcred/plugins/program/pluginmain"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

func main() {
	pluginmain.Main(pluginmain.Plugin{
		Signer: func(ctx context.Context, u *url.URL, opts *signer.OpenOptions) (signer.Signer, error) {
			u, err := translate(u, &opts.OpenOptions)
			if err != nil {
				return nil, err
			}
			return keyhouse.OpenSigner(ctx, u, opts)
		},
		Source: func(ctx context.Context, u *url.URL, opts *secretsource.OpenOptions) (secretsource.Source, error) {
			u, err := translate(u, opts)
			if err != nil {
				return nil, err
			}
			return keyhouse.OpenSource(ctx, u, opts)
		},
	})
}

// translate makes keyhouse's URI of the plugin's, whose host is the plugin's name
// and so says nothing of the server.
func translate(u *url.URL, opts *secretsource.OpenOptions) (*url.URL, error) {
	query, err := secretsource.CheckQuery(u, "server", "token-source", "insecure-loopback")
	if err != nil {
		return nil, err
	}
	switch query.Get("insecure-loopback") {
	case "", "false":
	case "true":
		opts.AllowInsecureLoopback = true
	default:
		return nil, &smartcred.ConfigError{Option: "insecure-loopback", Problem: "is neither true nor false"}
	}
	return &url.URL{
		Scheme: "keyhouse", Host: query.Get("server"), Path: u.Path,
		RawQuery: url.Values{"token-source": {query.Get("token-source")}}.Encode(),
	}, nil
}
