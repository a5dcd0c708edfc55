package awskms_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awskms"
	"github.com/smartcred/smartcred/signer"
)

// events are what an observer was told.
type events struct {
	mu  sync.Mutex
	all []smartcred.Event
}

func (e *events) Observe(_ context.Context, event smartcred.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// take returns the events so far, and forgets them.
func (e *events) take() []smartcred.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	taken := e.all
	e.all = nil
	return taken
}

// versions are the keys that s lists, staged ones marked.
func versions(t *testing.T, s signer.Signer) string {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, k := range keys {
		name := k.Version
		if k.NotBefore.Equal(signer.Unscheduled) {
			name = "next " + name
		}
		list = append(list, name)
	}
	return strings.Join(list, ", ")
}

func sign(t *testing.T, s signer.Signer, version string) error {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.Version != version {
			continue
		}
		sig, err := s.Sign(t.Context(), k, []byte("header.claims"))
		if err == nil {
			err = signer.Verify(k, []byte("header.claims"), sig)
		}
		return err
	}
	t.Fatalf("%s is not listed", version)
	return nil
}

func closeAtEnd(t *testing.T, s signer.Signer) {
	t.Helper()
	t.Cleanup(func() { s.(*awskms.Signer).Close() })
}

func TestKeysByEveryName(t *testing.T) {
	aws := start(t, nil)
	arn := aws.CreateKey(awsfake.Key{})
	id := arn[strings.LastIndexByte(arn, '/')+1:]
	alias := aws.SetAlias("alias/smart/app", arn)
	foreign := aws.CreateKey(awsfake.Key{Account: "999988887777", Users: []string{awsfake.Account}})
	foreignAlias := aws.SetAlias("alias/theirs", foreign)
	west := aws.CreateKey(awsfake.Key{Region: "us-west-2"})
	for name, want := range map[string]string{
		arn: arn, id: arn, alias: arn, "alias/smart/app": arn, foreign: foreign, foreignAlias: foreign, west: west,
		aws.SetAlias("alias/west", west): west,
	} {
		s := open(t, "awskms:///"+name, smartcred.Discard)
		closeAtEnd(t, s)
		if got := versions(t, s); got != want {
			t.Errorf("%s lists %s, want %s", name, got, want)
			continue
		}
		if err := sign(t, s, want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, r := range aws.Requests() {
		if r.Operation != "DescribeKey" && !strings.HasPrefix(r.Resource, "arn:aws:kms:"+r.Region+":") {
			t.Errorf("%s was asked for %s in %s: not by its ARN", r.Operation, r.Resource, r.Region)
		}
	}
}

func TestSpecsAndAlgorithms(t *testing.T) {
	aws := start(t, nil)
	for _, c := range []struct {
		name  string
		key   awsfake.Key
		asked signer.Algorithm
		want  signer.Algorithm
		says  string
	}{
		{"P-384", awsfake.Key{Spec: "ECC_NIST_P384"}, "", signer.ES384, ""},
		{"RSA 2048", awsfake.Key{Spec: "RSA_2048"}, "", signer.RS384, ""},
		{"RSA 3072", awsfake.Key{Spec: "RSA_3072"}, "", signer.RS384, ""},
		{"RSA 4096", awsfake.Key{Spec: "RSA_4096"}, "", signer.RS384, ""},
		{"RS256", awsfake.Key{Spec: "RSA_2048"}, signer.RS256, signer.RS256, ""},
		{"RS512", awsfake.Key{Spec: "RSA_2048"}, signer.RS512, signer.RS512, ""},
		{"PS384", awsfake.Key{Spec: "RSA_2048"}, signer.PS384, signer.PS384, ""},
		{"ES256", awsfake.Key{Spec: "ECC_NIST_P256"}, signer.ES256, signer.ES256, ""},
		{"P-256 not asked for", awsfake.Key{Spec: "ECC_NIST_P256"}, "", "", "the key's spec is ECC_NIST_P256: make one with --key-spec ECC_NIST_P384"},
		{"ES384 of RSA", awsfake.Key{Spec: "RSA_2048"}, signer.ES384, "", "the key's spec, RSA_2048, does not sign with ES384"},
		{"encryption", awsfake.Key{Spec: "RSA_2048", Usage: "ENCRYPT_DECRYPT"}, "", "", "usage is ENCRYPT_DECRYPT: make one with --key-usage SIGN_VERIFY"},
		{"symmetric", awsfake.Key{Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT"}, "", "", "usage is ENCRYPT_DECRYPT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			arn := aws.CreateKey(c.key)
			s, err := signer.Open(t.Context(), "awskms:///"+arn, &signer.OpenOptions{OpenOptions: loopback, Algorithm: c.asked})
			if err != nil {
				t.Fatal(err)
			}
			closeAtEnd(t, s)
			keys, err := s.Keys(t.Context())
			if c.says != "" {
				if !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), arn) {
					t.Errorf("got %v, want one that says %q of %s", err, c.says, arn)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if keys[0].Algorithm != c.want {
				t.Errorf("it signs %s, want %s", keys[0].Algorithm, c.want)
			}
			if err := sign(t, s, arn); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLeadingZeros(t *testing.T) {
	aws := start(t, nil)
	arn := aws.CreateKey(awsfake.Key{})
	s := open(t, "awskms:///"+arn, smartcred.Discard)
	closeAtEnd(t, s)
	aws.LeadingZeros(10)
	for range 10 {
		if err := sign(t, s, arn); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCustody(t *testing.T) {
	aws := start(t, nil)
	made := aws.CreateKey(awsfake.Key{})
	imported := aws.CreateKey(awsfake.Key{Origin: "EXTERNAL"})
	several := aws.CreateKey(awsfake.Key{MultiRegion: true})
	aws.ReplicateKey(several, "us-west-2")
	for arn, want := range map[string]struct {
		level signer.CustodyLevel
		says  string
	}{
		made:     {signer.CustodyGenerated, "Origin AWS_KMS: made in AWS KMS, which exports no private keys; in one region (MultiRegion false)"},
		imported: {signer.CustodyImported, "Origin EXTERNAL: made elsewhere and imported into AWS KMS"},
		several:  {signer.CustodyGenerated, "MultiRegion true: AWS KMS of several regions has it (eu-central-1, us-west-2)"},
	} {
		s := open(t, "awskms:///"+arn, smartcred.Discard)
		closeAtEnd(t, s)
		keys, err := s.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := keys[0].Custody; got.Level != want.level || !strings.Contains(got.Evidence, want.says) || !strings.Contains(got.Evidence, arn) {
			t.Errorf("custody is %s: %s; want %s: …%s…", got.Level, got.Evidence, want.level, want.says)
		}
	}
}

func TestNextAndPrevious(t *testing.T) {
	aws := start(t, nil)
	key := func() string { return aws.CreateKey(awsfake.Key{}) }
	soon, later, now, before, long := key(), key(), key(), key(), key()
	aws.SetAlias("alias/smart", now)
	s := open(t, "awskms:///alias/smart?next="+soon+","+later+"&previous="+before+","+long, smartcred.Discard)
	closeAtEnd(t, s)
	if diff := cmp.Diff(strings.Join([]string{"next " + later, "next " + soon, now, before, long}, ", "), versions(t, s)); diff != "" {
		t.Errorf("the list (-want +got):\n%s", diff)
	}
	// Moving the alias is all that the day of the change needs.
	aws.SetAlias("alias/smart", soon)
	if diff := cmp.Diff(strings.Join([]string{"next " + later, soon, before, long}, ", "), versions(t, s)); diff != "" {
		t.Errorf("moved, without a signature before (-want +got):\n%s", diff)
	}
	aws.SetKeyState(before, awsfake.PendingDeletion)
	if got := versions(t, s); strings.Contains(got, before) {
		t.Errorf("a key that is about to be deleted is listed: %s", got)
	}
}

func TestReplicasAreOneKey(t *testing.T) {
	aws := start(t, nil)
	arn := aws.CreateKey(awsfake.Key{MultiRegion: true})
	replica := aws.ReplicateKey(arn, "us-west-2")
	s := open(t, "awskms:///"+replica+"?previous="+arn+"&next="+arn, smartcred.Discard)
	closeAtEnd(t, s)
	if got := versions(t, s); got != replica {
		t.Errorf("lists %s, want %s alone", got, replica)
	}
	if err := sign(t, s, replica); err != nil {
		t.Error(err)
	}
	if r := aws.Requests(); r[len(r)-1].Region != "us-west-2" {
		t.Errorf("the replica signed in %s", r[len(r)-1].Region)
	}
}

// Once warm, an assertion costs one Sign and nothing else, and CloudTrail's user
// agent has its jti.
func TestOneCallAnAssertion(t *testing.T) {
	aws := start(t, nil)
	aws.SetAlias("alias/smart", aws.CreateKey(awsfake.Key{}))
	keys, err := signer.NewKeySet(open(t, "awskms:///alias/smart", smartcred.Discard), &signer.KeySetOptions{Observer: smartcred.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	key, err := keys.Signing(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	aws.ResetCalls()
	assertion := signer.Assertion{ClientID: "my-app", Audience: "https://ehr.example.com/token"}
	const n = 5
	for range n {
		_, jti, err := assertion.Sign(t.Context(), keys, key)
		if err != nil {
			t.Fatal(err)
		}
		r := aws.Requests()
		if last := r[len(r)-1]; !strings.Contains(last.UserAgent, "smartcred-jti/"+jti) {
			t.Errorf("the user agent %q has no jti %s", last.UserAgent, jti)
		}
	}
	if total := len(aws.Requests()); aws.Calls("Sign") != n || total != n {
		t.Errorf("%d calls of Sign and %d in all for %d assertions", aws.Calls("Sign"), total, n)
	}
}

func TestCheckMakesNoSignature(t *testing.T) {
	aws := start(t, nil)
	arn := aws.CreateKey(awsfake.Key{})
	aws.SetAlias("alias/smart", arn)
	s := open(t, "awskms:///alias/smart", smartcred.Discard).(*awskms.Signer)
	closeAtEnd(t, s)
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	allow := aws.Deny("Sign", "")
	if err := s.Check(t.Context()); !errors.Is(err, smartcred.ErrDenied) {
		t.Errorf("denied: got %v", err)
	}
	allow()
	for _, r := range aws.Requests() {
		if r.Operation == "Sign" && r.Code == "" {
			t.Error("a signature was made")
		}
	}
}

// What the API answers is not believed: KeyId and signature are looked at.
func TestAnswersAreChecked(t *testing.T) {
	aws := start(t, nil)
	arn := aws.CreateKey(awsfake.Key{Spec: "RSA_2048"})
	other := aws.CreateKey(awsfake.Key{Spec: "RSA_2048"})
	s := open(t, "awskms:///"+arn, smartcred.Discard)
	closeAtEnd(t, s)
	if err := sign(t, s, arn); err != nil {
		t.Fatal(err)
	}
	for name, fault := range map[string]awsfake.Fault{
		"another key signed":       {Operation: "Sign", Change: func(m map[string]any) { m["KeyId"] = other }},
		"no signature":             {Operation: "Sign", Change: func(m map[string]any) { delete(m, "Signature") }},
		"a short signature":        {Operation: "Sign", Change: func(m map[string]any) { m["Signature"] = "AAAA" }},
		"another key is described": {Operation: "DescribeKey", Change: func(m map[string]any) { m["KeyMetadata"].(map[string]any)["Arn"] = other }},
		"an ARN that is none":      {Operation: "DescribeKey", Change: func(m map[string]any) { m["KeyMetadata"].(map[string]any)["Arn"] = "x" }},
	} {
		remove := aws.Inject(fault)
		if err := sign(t, s, arn); !errors.Is(err, smartcred.ErrUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
		remove()
	}
	fresh := open(t, "awskms:///"+arn, smartcred.Discard)
	closeAtEnd(t, fresh)
	for name, fault := range map[string]awsfake.Fault{
		"another key's public half": {Operation: "GetPublicKey", Change: func(m map[string]any) { m["KeyId"] = other }},
		"no public half":            {Operation: "GetPublicKey", Change: func(m map[string]any) { m["PublicKey"] = "AAAA" }},
	} {
		remove := aws.Inject(fault)
		if _, err := fresh.Keys(t.Context()); !errors.Is(err, smartcred.ErrUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
		remove()
	}
}
