package pluginmain

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// closing counts the closes of a source.
type closing struct {
	secretsource.Source
	closed *int
}

func (c closing) Close() error { *c.closed++; return nil }

func source(value string, opened, closed *int) Plugin {
	return Plugin{Source: func(_ context.Context, u *url.URL, _ *secretsource.OpenOptions) (secretsource.Source, error) {
		*opened++
		if u.String() == "plugin:///bad" {
			return nil, &smartcred.ConfigError{Problem: "bad"}
		}
		return closing{secretsource.Static([]byte(value)), closed}, nil
	}}
}

func TestServe(t *testing.T) {
	for name, tt := range map[string]struct{ value, in, out, says string }{
		"hello":               {in: `{"id":1,"method":"hello","protocols":[9,1],"timeout_ms":9,"future":1}`, out: `{"id":1,"mode":"long-lived","protocol":1,"roles":["source"]}`},
		"hello of a later":    {in: `{"id":1,"method":"hello","protocols":[2],"timeout_ms":9}`, out: `{"id":1,"error":{"code":"unsupported_protocol"}}`},
		"no such method":      {in: `{"id":2,"method":"dance","protocol":1,"timeout_ms":9000}`, out: `{"id":2,"error":{"code":"unsupported_method"}}`},
		"not a signer":        {in: `{"id":2,"method":"keys","protocol":1,"timeout_ms":9000}`, out: `{"id":2,"error":{"code":"unsupported_method"}}`},
		"no protocol":         {in: `{"id":2,"method":"lookup","timeout_ms":9000}`, out: `{"id":2,"error":{"code":"unsupported_protocol"}}`},
		"bytes":               {value: "\xff", in: `{"id":3,"method":"lookup","protocol":1,"stage":"current","timeout_ms":9000}`, out: `"secret_base64":"/w=="`},
		"previous":            {value: "x", in: `{"id":3,"method":"lookup","protocol":1,"stage":"previous","timeout_ms":9000}`, out: `{"id":3,"error":{"code":"not_found"}}`},
		"no such stage":       {value: "x", in: `{"id":3,"method":"lookup","protocol":1,"stage":"next","timeout_ms":9000}`, out: `{"id":3,"error":{"code":"not_found"}}`},
		"can't be opened":     {value: "x", in: `{"id":3,"method":"lookup","protocol":1,"path":"bad","timeout_ms":9000}`, out: `{"id":3,"error":{"code":"invalid_config"}}`},
		"not JSON":            {in: `s3cr3t`, says: "no JSON object of the protocol"},
		"long":                {value: "x", in: `{"id":3,"method":"lookup","protocol":1,"stage":"current","timeout_ms":9000,"future":"` + strings.Repeat("x", 100<<10) + `"}`, out: `"secret":"x"`},
		"too long":            {in: strings.Repeat("x", 2<<20), says: "a line of more than"},
		"too long by a byte":  {in: strings.Repeat("x", 1<<20), says: "a line of more than"},
		"cut off by the end ": {in: ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			var opened, closed int
			in := tt.in
			if in != "" {
				in += "\n"
			}
			// The last line is cut off: it is no request.
			err := Serve(t.Context(), source(tt.value, &opened, &closed), strings.NewReader(in+`{"id":`), &out)
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "s3cr3t")) {
				t.Fatalf("Serve = %v, want %q", err, tt.says)
			}
			if !strings.Contains(out.String(), tt.out) || strings.Count(out.String(), "\n") != min(1, len(tt.out)) {
				t.Errorf("it wrote %q, want %q", out.String(), tt.out)
			}
			if name != "can't be opened" && opened != closed {
				t.Errorf("%d opened, %d closed", opened, closed)
			}
		})
	}
}

func TestServeEndsWhenNobodyReads(t *testing.T) {
	in, feed := io.Pipe()
	out, w := io.Pipe()
	_ = out.CloseWithError(errors.New("nobody reads"))
	var opened, closed int
	done := make(chan error, 1)
	go func() { done <- Serve(t.Context(), source("x", &opened, &closed), in, w) }()
	_, _ = io.WriteString(feed, `{"id":1,"method":"hello","protocols":[1],"timeout_ms":9}`+"\n")
	_ = feed.Close()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "write answer") {
		t.Errorf("Serve = %v", err)
	}
	if diff := cmp.Diff(opened, closed); diff != "" {
		t.Error(diff)
	}
}

// pointer is a source and a signer that nil is none of.
type pointer struct{ value string }

func (p *pointer) Lookup(context.Context, secretsource.Stage) (secretsource.Secret, error) {
	return secretsource.New([]byte(p.value), "1"), nil
}

func (p *pointer) Keys(context.Context) ([]signer.Key, error) { return nil, errors.New(p.value) }

func (p *pointer) Sign(context.Context, signer.Key, []byte) ([]byte, error) {
	return nil, errors.New(p.value)
}

func (p *pointer) Close() error { p.value = ""; return nil }

// TestWhatFailedToOpenIsOpenedAgain: an opener that fails may return a nil pointer
// beside its error, which is neither source nor signer.
func TestWhatFailedToOpenIsOpenedAgain(t *testing.T) {
	tries := 0
	open := func() (*pointer, error) {
		if tries++; tries <= 3 {
			return nil, smartcred.ErrInvalidConfig
		}
		return &pointer{"value"}, nil
	}
	p := Plugin{
		Source: func(context.Context, *url.URL, *secretsource.OpenOptions) (secretsource.Source, error) { return open() },
		Signer: func(context.Context, *url.URL, *signer.OpenOptions) (signer.Signer, error) { return open() },
	}
	const lookup, keys = `"method":"lookup","protocol":1,"stage":"current","timeout_ms":9000}`, `"method":"keys","protocol":1,"timeout_ms":9000}`
	in := `{"id":1,` + lookup + "\n" + `{"id":2,` + keys + "\n" + `{"id":3,` + keys + "\n" + `{"id":4,` + lookup + "\n"
	var out strings.Builder
	if err := Serve(t.Context(), p, strings.NewReader(in), &out); err != nil {
		t.Error(err)
	}
	want := `{"id":1,"error":{"code":"invalid_config"}}
{"id":2,"error":{"code":"invalid_config"}}
{"id":3,"error":{"code":"invalid_config"}}
{"id":4,"secret":"value","version":"1"}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
