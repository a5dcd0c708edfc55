package secretsource_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/secretsource/secretsourcetest"
)

// write puts text at path, or removes it, as a careful owner does.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// fileHarness keeps values, written by encode, in a file that uri names.
func fileHarness(t *testing.T, fragment string, encode func(string) string) *secretsourcetest.Harness {
	path := filepath.Join(t.TempDir(), "secret")
	return &secretsourcetest.Harness{
		Open: func(t *testing.T) secretsource.Source {
			src, err := secretsource.Open(t.Context(), "file://"+path+fragment, nil)
			if err != nil {
				t.Fatal(err)
			}
			return src
		},
		Set: func(t *testing.T, value string) {
			if old, err := os.ReadFile(path); err == nil {
				write(t, path+".previous", string(old))
			}
			write(t, path, encode(value))
		},
		HasPrevious: true,
		Remove: func(t *testing.T) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func TestFileConforms(t *testing.T) {
	secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
		return fileHarness(t, "", func(v string) string { return v + "\n" })
	})
}

func TestFieldConforms(t *testing.T) {
	secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
		return fileHarness(t, "#client_secret", func(v string) string {
			object, err := json.Marshal(map[string]string{"client_id": "my-app", "client_secret": v})
			if err != nil {
				t.Fatal(err)
			}
			return string(object)
		})
	})
}

func TestEnvConforms(t *testing.T) {
	const name = "SMARTCRED_TEST_CONFORMANCE"
	secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
		t.Setenv(name, "")
		t.Setenv(name+"_PREVIOUS", "")
		return &secretsourcetest.Harness{
			Open: func(t *testing.T) secretsource.Source {
				src, err := secretsource.Open(t.Context(), "env:"+name, nil)
				if err != nil {
					t.Fatal(err)
				}
				return src
			},
			Set: func(t *testing.T, value string) {
				t.Setenv(name+"_PREVIOUS", os.Getenv(name))
				t.Setenv(name, value)
			},
			HasPrevious: true,
			Remove:      func(t *testing.T) { t.Setenv(name, "") },
		}
	})
}

func TestCacheConforms(t *testing.T) {
	secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
		h := fileHarness(t, "", func(v string) string { return v })
		open := h.Open
		var opened []*secretsource.Cache
		h.Open = func(t *testing.T) secretsource.Source {
			c := secretsource.NewCache(open(t), nil)
			opened = append(opened, c)
			return c
		}
		set, remove := h.Set, h.Remove
		forget := func() {
			for _, c := range opened {
				c.Forget(secretsource.Current)
				c.Forget(secretsource.Previous)
			}
		}
		h.Set = func(t *testing.T, value string) { set(t, value); forget() }
		h.Remove = func(t *testing.T) { remove(t); forget() }
		return h
	})
}
