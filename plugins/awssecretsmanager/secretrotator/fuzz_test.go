package secretrotator

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/smartcred/smartcred/secretsource"
)

// Another client secret leaves every other member as it was, byte for byte.
func FuzzValue(f *testing.F) {
	for _, seed := range []string{
		`{"client_secret":"a"}`, `{"a":1e400,"client_secret":"b","z":[{}]}`, ` { "client_secret" : "\u0041" , "\u0061" : null } `,
		`{"client_secret":""}`, `{"client_secret":"a","client_secret":"b"}`, `{"":"x","client_secret":"a"}`, `[]`, ``, "\ufeff{}", `{"client_secret":"\ud800"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := readValue(text, "v", "client_secret")
		if err != nil {
			return
		}
		next, err := v.With("the-next-secret", map[string]any{"extra": "<&>", "client_secret_expires_at": 7})
		if err != nil {
			t.Fatalf("a value that reads can't be changed: %v", err)
		}
		if got := string(next.Secret().Reveal()); got != "the-next-secret" {
			t.Errorf("the secret is %q", got)
		}
		if extra, _ := next.Member("extra"); extra != "<&>" || next.number("client_secret_expires_at") != 7 {
			t.Error("new members are lost")
		}
		before, _ := v.object()
		after, err := next.object()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range before.Names {
			old, _ := before.Raw(name)
			now, ok := after.Raw(name)
			if name != "client_secret" && name != "extra" && name != "client_secret_expires_at" && (!ok || string(old) != string(now)) {
				t.Errorf("member %q was %s and is %s", name, old, now)
			}
		}
	})
}

type answering string

func (a answering) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(a))), Request: req,
	}, nil
}

// Whatever a server answers with, what it issued is stored, and no error quotes
// a credential.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"client_id":"my-app","client_secret":"issued-secret-0123456789","client_secret_expires_at":0,"registration_access_token":"new"}`,
		`{"client_id":"my-app","client_secret":"issued-secret-0123456789","client_secret_expires_at":"soon"}`,
		`{"client_id":"my-app","client_secret":"issued-secret-0123456789","client_secret_expires_at":1e9}`,
		`{"client_id":"my-app","registration_access_token":"new"}`,
		`{"client_id":"another","client_secret":"x"}`, `{"client_id":"my-app","client_secret":"\ud800"}`,
		`{"client_id":"my-app","registration_client_uri":"https://elsewhere.example/"}`, `{"version":"v","status":"set"}`, `{}`, `null`, ``,
	} {
		f.Add(seed)
	}
	const current = `{"client_secret":"the-current-secret-0123456789","registration_client_uri":"https://ehr.example.org/r","registration_access_token":"the-registration-token"}`
	f.Fuzz(func(t *testing.T, answer string) {
		client := &http.Client{Transport: answering(answer)}
		g, err := NewRegistration(RegistrationOptions{ClientID: "my-app", NoOverlap: true, HTTPClient: client})
		if err != nil {
			t.Fatal(err)
		}
		v, err := readValue(current, "v", "client_secret")
		if err != nil {
			t.Fatal(err)
		}
		next, err := g.Issue(t.Context(), v, func(context.Context, Value) error { return nil })
		var in struct {
			ID     string `json:"client_id"`
			Secret string `json:"client_secret"`
		}
		if next.whole.IsZero() && err == nil {
			t.Error("neither a value nor an error")
		}
		if json.Unmarshal([]byte(answer), &in) == nil && err == nil && !next.whole.IsZero() && string(next.Secret().Reveal()) != in.Secret {
			t.Error("another secret than the server's is stored")
		}
		if uri, _ := next.Member(memberURI); !next.whole.IsZero() && !sameOrigin(uri, "https://ehr.example.org/") {
			t.Errorf("the next token goes to %s", uri)
		}
		h, hookErr := NewHook("https://hook.example.org/", secretsource.Static([]byte("the-hook-token")), &HookOptions{HTTPClient: client})
		if hookErr != nil {
			t.Fatal(hookErr)
		}
		set := h.Set(t.Context(), Change{Version: "v", Pending: v.Secret()})
		for _, e := range []error{err, set} {
			if e == nil {
				continue
			}
			for _, secret := range []string{"the-current-secret-0123456789", "the-registration-token", "the-hook-token", "issued-secret"} {
				if strings.Contains(e.Error(), secret) {
					t.Errorf("a credential is in %v", e)
				}
			}
		}
	})
}
