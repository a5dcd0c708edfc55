package provider

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

type basicVector struct {
	Name         string
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	RFC6749      string
	Raw          string
}

func TestBasicVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/basic.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []basicVector
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 10 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			if got, err := basicHeader(v.ClientID, v.ClientSecret, EncodingRFC6749); got != v.RFC6749 {
				t.Errorf("rfc6749: %s (%v), want %s", got, err, v.RFC6749)
			}
			got, err := basicHeader(v.ClientID, v.ClientSecret, EncodingRaw)
			if strings.Contains(v.ClientID, ":") { // what a server would take apart elsewhere
				if err == nil {
					t.Errorf("raw: a colon in the client id was taken")
				}
			} else if got != v.Raw {
				t.Errorf("raw: %s (%v), want %s", got, err, v.Raw)
			}
		})
	}
}

func TestClientSecretBasic(t *testing.T) {
	p, err := NewClientSecretBasic(secretsource.Static([]byte("two  spaces")), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	header, form := http.Header{}, url.Values{}
	err = p.Authenticate(t.Context(), Request{ClientID: "app"}, func(_ context.Context, c Credential) error {
		if c.Method != MethodClientSecretBasic {
			t.Errorf("method = %s", c.Method)
		}
		c.Apply(header, form)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := header.Get("Authorization"); got != "Basic YXBwOnR3bysrc3BhY2Vz" {
		t.Errorf("Authorization = %s", got)
	}
	if len(form) != 0 {
		t.Errorf("Basic adds %v to the body, where client_id must be left out", form)
	}
}

func TestRawEncodingRefusesAColonInTheClientID(t *testing.T) {
	p, err := NewClientSecretBasic(secretsource.Static([]byte("x")), &SecretOptions{Encoding: EncodingRaw})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Authenticate(t.Context(), Request{ClientID: "a:b"}, func(context.Context, Credential) error {
		t.Error("sent")
		return nil
	})
	if !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("err = %v, want ErrInvalidConfig", err)
	}
}

func TestClientSecretPost(t *testing.T) {
	p, err := NewClientSecretPost(secretsource.Static([]byte("s3cr3t&=")), nil)
	if err != nil {
		t.Fatal(err)
	}
	header, form := http.Header{}, url.Values{"grant_type": {"client_credentials"}}
	err = p.Authenticate(t.Context(), Request{ClientID: "app"}, func(_ context.Context, c Credential) error {
		if c.Method != MethodClientSecretPost {
			t.Errorf("method = %s", c.Method)
		}
		c.Apply(header, form)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "client_id=app&client_secret=s3cr3t%26%3D&grant_type=client_credentials"
	if got := form.Encode(); got != want || len(header) != 0 {
		t.Errorf("form = %s, header = %v", got, header)
	}
}

// failingSource fails as a backend would.
type failingSource struct{ err error }

func (s failingSource) Lookup(context.Context, secretsource.Stage) (secretsource.Secret, error) {
	return secretsource.Secret{}, s.err
}

func TestSecretThatCannotBeLookedUp(t *testing.T) {
	for name, cause := range map[string]error{
		"not found":   smartcred.ErrNotFound,
		"denied":      smartcred.ErrDenied,
		"unavailable": &smartcred.UnavailableError{Err: errors.New("sealed")},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := NewClientSecretBasic(failingSource{cause}, &SecretOptions{Cache: &secretsource.CacheOptions{Observer: smartcred.Discard}})
			if err != nil {
				t.Fatal(err)
			}
			err = p.Authenticate(t.Context(), Request{ClientID: "app"}, func(context.Context, Credential) error {
				t.Error("sent without a secret")
				return nil
			})
			var failed *CredentialError
			if !errors.As(err, &failed) || !errors.Is(err, cause) {
				t.Errorf("err = %v, want a CredentialError of %v", err, cause)
			}
		})
	}
}

// FuzzBasic: what the server decodes is what was configured.
func FuzzBasic(f *testing.F) {
	f.Add("client", "se:cr:et")
	f.Add("cli ent", " %&+£€~*")
	f.Add("https://app.example.test/?a=b", "\x00\xff")
	f.Fuzz(func(t *testing.T, id, secret string) {
		header, err := basicHeader(id, secret, EncodingRFC6749)
		if err != nil {
			t.Fatal(err)
		}
		req := &http.Request{Header: http.Header{"Authorization": {header}}}
		user, password, ok := req.BasicAuth()
		if !ok {
			t.Fatalf("no Basic header: %q", header)
		}
		gotID, err1 := url.QueryUnescape(user)
		gotSecret, err2 := url.QueryUnescape(password)
		if err1 != nil || err2 != nil || gotID != id || gotSecret != secret {
			t.Errorf("decoded %q, %q (%v, %v)", gotID, gotSecret, err1, err2)
		}
		header, err = basicHeader(id, secret, EncodingRaw)
		if strings.Contains(id, ":") {
			if err == nil {
				t.Error("raw: a colon in the client id was taken")
			}
			return
		}
		req.Header.Set("Authorization", header)
		user, password, ok = req.BasicAuth()
		if err != nil || !ok || user != id || password != secret {
			t.Errorf("raw: decoded %q, %q (%v)", user, password, err)
		}
	})
}
