//go:build cgo

package pkcs11

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

// versions are those of the keys, with what they wait for.
func versions(t *testing.T, s signer.Signer) []string {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, k := range keys {
		v := k.Version
		switch {
		case k.NotBefore.Equal(signer.Unscheduled):
			v += " unscheduled"
		case !k.NotBefore.IsZero():
			v += " " + k.NotBefore.Format(time.DateOnly)
		}
		out = append(out, v)
	}
	return out
}

func TestNextAndPrevious(t *testing.T) {
	h := newHSM(t)
	for id, label := range map[string]string{"01": "old", "02": "now", "03": "new"} {
		h.keygen(t, p384, label, id)
	}
	for name, query := range map[string][]string{
		"attributes":    {"next=object=new", "previous=object=old"},
		"labels":        {"next=new", "previous=old"},
		"ids":           {"next=id=%03", "previous=id=%01"},
		"encoded":       {"next=object%3Dnew%3Bid%3D%2503", "previous=id%3D%2501"},
		"both, mixed":   {"next=object=new;id=%03", "previous=object%3Dold"},
		"library first": {"previous=object=old", "next=object=new"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, uri(softHSM, "object=now", query...), nil)
			if diff := cmp.Diff([]string{"03 unscheduled", "02", "01"}, versions(t, s)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			keys, err := signer.NewKeySet(s, &signer.KeySetOptions{Observer: smartcred.Discard})
			if err != nil {
				t.Fatal(err)
			}
			if key, err := keys.Signing(t.Context(), nil); err != nil || key.Version != "02" {
				t.Errorf("version %q signs: %v", key.Version, err)
			}
		})
	}
	t.Run("not there", func(t *testing.T) {
		var events []string
		observer := smartcred.ObserverFunc(func(_ context.Context, e smartcred.Event) { events = append(events, e.Detail) })
		opts := &signer.OpenOptions{}
		opts.Observer = observer
		s := open(t, uri(softHSM, "object=now", "next=gone"), opts)
		for range 2 {
			if diff := cmp.Diff([]string{"02"}, versions(t, s)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		if len(events) != 1 || !strings.Contains(events[0], "next") {
			t.Errorf("events %q, want one", events)
		}
	})
}

// One label, several keys: their dates say which is which.
func TestDates(t *testing.T) {
	h := newHSM(t)
	day := func(days int) string { return time.Now().UTC().AddDate(0, 0, days).Format("20060102") }
	for id, dates := range map[string][2]string{
		"01": {day(-400), day(-1)}, // over
		"02": {day(-30), day(0)},   // its last day
		"03": {day(-2), ""},
		"04": {day(10), ""},
	} {
		h.keygen(t, p384, "k", id)
		h.date(t, id, dates[0], dates[1])
	}
	h.keygen(t, p384, "k", "05")
	s := open(t, uri(softHSM, "object=k"), nil)
	var ids []string
	for _, v := range versions(t, s) {
		ids = append(ids, strings.Fields(v)[0])
	}
	if diff := cmp.Diff([]string{"04", "03", "02", "05"}, ids); diff != "" {
		t.Errorf("newest first (-want +got):\n%s", diff)
	}
	keys, err := signer.NewKeySet(s, &signer.KeySetOptions{Observer: smartcred.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if key, err := keys.Signing(t.Context(), nil); err != nil || key.Version != "03" {
		t.Errorf("version %q signs: %v", key.Version, err)
	}
}

// Nothing tells the newest of two keys without dates. One that comes while the
// program runs does not stop it.
func TestTwoKeysWithoutDates(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, p384, "k", "01")
	running := open(t, uri(softHSM, "object=k"), nil)
	if diff := cmp.Diff([]string{"01"}, versions(t, running)); diff != "" {
		t.Fatal(diff)
	}
	h.keygen(t, p384, "k", "02")
	if diff := cmp.Diff([]string{"02 unscheduled", "01"}, versions(t, running)); diff != "" {
		t.Errorf("the running program (-want +got):\n%s", diff)
	}
	_, err := open(t, uri(softHSM, "object=k"), nil).Keys(t.Context())
	if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "CKA_START_DATE") {
		t.Errorf("a new start: %v, want ErrInvalidConfig", err)
	}
	if diff := cmp.Diff([]string{"02"}, versions(t, open(t, uri(softHSM, "object=k;id=%02"), nil))); diff != "" {
		t.Errorf("named by id (-want +got):\n%s", diff)
	}
}

func TestCustody(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, p384, "made", "01")
	h.tool(t, "--keypairgen", "--key-type", p384, "--label", "loose", "--id", "02", "--extractable")
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(h.dir, "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "softhsm2-util", "--module", softHSM, "--import", path, "--token", tokenLabel, "--pin", rightPIN, "--label", "brought", "--id", "03")
	for label, want := range map[string]signer.CustodyLevel{
		"made": signer.CustodyGenerated, "loose": signer.CustodyExportable, "brought": signer.CustodyImported,
	} {
		t.Run(label, func(t *testing.T) {
			keys, err := open(t, uri(softHSM, "object="+label), nil).Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got := keys[0].Custody
			if got.Level != want || !strings.Contains(got.Evidence, "CKA_NEVER_EXTRACTABLE=") {
				t.Errorf("%s: %s", got.Level, got.Evidence)
			}
		})
	}
}

// Without a public key object the certificate tells, and RSA keys tell by themselves.
func TestPublicHalf(t *testing.T) {
	h := newHSM(t)
	h.keygen(t, rsa2048, "r", "01")
	h.keygen(t, p384, "e", "02")
	keys, err := open(t, uri(softHSM, "object=e"), nil).Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"01", "02"} {
		h.tool(t, "--delete-object", "--type", "pubkey", "--id", id)
	}
	if err := signs(t.Context(), open(t, uri(softHSM, "object=r"), nil)); err != nil {
		t.Errorf("RSA: %v", err)
	}
	e := open(t, uri(softHSM, "object=e"), nil)
	if _, err := e.Keys(t.Context()); !errors.Is(err, smartcred.ErrNotFound) || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("P-384 without a public half: %v", err)
	}
	authority, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, keys[0].Public, authority)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(h.dir, "cert.der")
	if err := os.WriteFile(path, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	h.tool(t, "--write-object", path, "--type", "cert", "--label", "e", "--id", "02")
	if err := signs(t.Context(), e); err != nil {
		t.Errorf("P-384 with a certificate: %v", err)
	}
}

func TestMissingKey(t *testing.T) {
	newHSM(t)
	_, err := open(t, uri(softHSM, "object=gone"), nil).Keys(t.Context())
	if !errors.Is(err, smartcred.ErrNotFound) || !strings.Contains(err.Error(), "object=gone") {
		t.Errorf("%v, want ErrNotFound that names the key", err)
	}
	_, err = open(t, uri(softHSM, "id=01"), nil).Keys(t.Context())
	if !errors.Is(err, smartcred.ErrNotFound) || !strings.Contains(err.Error(), "id=%01") {
		t.Errorf("an id as pkcs11-tool writes it: %v, want ErrNotFound that says how it is written here", err)
	}
}
