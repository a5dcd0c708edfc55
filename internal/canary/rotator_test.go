package canary

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth"
)

const (
	issuedSecret      = "iS8vQ3nX6kT1wB9mZ4rL7dP2fJ5hG0cY"
	registrationToken = "rG2xW7bN4tK9vQ1mZ6cR8pL3sD5hF0jT"
	newRegistration   = "nR5mT8wK1xB6vZ3qC9pD4sL7fH2gJ0yU"
	rotationToken     = "oT7kB3vX9mQ2wZ6nR1tL8cD4pF5hS0gJ"
)

// newRotation returns what rotates with a server that repeats what it gets.
func newRotation(t *testing.T, w *watch, server *echoServer) (*secretrotator.Hook, *secretrotator.Registration, map[string]*secretrotator.TokenTest) {
	t.Helper()
	hook, err := secretrotator.NewHook(server.URL+"/rotate", secretsource.Static([]byte(hookToken)), &secretrotator.HookOptions{
		ClientID: "app", SendCurrent: true, AllowInsecureLoopback: true, Timeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	registration, err := secretrotator.NewRegistration(secretrotator.RegistrationOptions{ClientID: "app", NoOverlap: true, AllowInsecureLoopback: true, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]*secretrotator.TokenTest{}
	for name, opts := range map[string]*secretrotator.TokenTestOptions{
		"basic":                 nil,
		"post":                  {Method: provider.MethodClientSecretPost},
		"raw, introspection":    {Request: secretrotator.TestIntrospection, Encoding: provider.EncodingRaw},
		"unauthorized":          {Request: secretrotator.TestUnauthorizedClient},
		"post of introspection": {Request: secretrotator.TestIntrospection, Method: provider.MethodClientSecretPost},
	} {
		tests[name], err = secretrotator.NewTokenTest(smartauth.Config{
			BaseURL: server.base(), ClientID: "app", Scopes: []string{"system/*.rs"}, TokenEndpoint: server.URL + "/token",
			AllowInsecureLoopback: true, Timeout: 5 * time.Second, Observer: w.observer(),
		}, opts)
		if err != nil {
			t.Fatal(err)
		}
	}
	return hook, registration, tests
}

// A registrar is a client configuration endpoint that issues secrets, unless
// update is set: it then answers an update by that.
type registrar struct {
	mu     sync.Mutex
	update http.HandlerFunc
}

func (g *registrar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	members := map[string]any{
		"client_id": "app", "client_secret": clientSecret, "client_secret_expires_at": 0, "registration_access_token": registrationToken,
		"registration_client_uri": "http://" + r.Host + r.URL.Path, "token_endpoint_auth_method": "client_secret_basic",
	}
	if r.Method == http.MethodPut {
		if g.update != nil {
			g.update(w, r)
			return
		}
		members["client_secret"], members["registration_access_token"] = issuedSecret, newRegistration
	}
	oauthError(w, http.StatusOK, members)
}

func testRotator(t *testing.T) {
	w := newCommonWatch(t)
	awsSecrets(w)
	for name, value := range map[string]string{
		"issued secret": issuedSecret, "registration token": registrationToken, "new registration token": newRegistration, "rotation token": rotationToken,
	} {
		w.secret(name, value)
	}
	ctx := t.Context()
	server := newEchoServer(t, w)
	hook, registration, tests := newRotation(t, w, server)
	w.value("hook", hook)
	w.value("registration", registration)
	change := secretrotator.Change{
		SecretID: "smart/app", Version: "11111111-2222-3333-4444-555555555555",
		Current: secretsource.New([]byte(clientSecret), "v1"), Pending: secretsource.New([]byte(previousSecret), "v2"),
	}
	w.value("change", change)
	value := registeredValue(t, w, server, registration)
	w.value("value", value)
	_, err := value.With(clientSecret, map[string]any{"x": func() {}, accessToken: nil})
	w.err("with", err)
	keep := func(_ context.Context, v secretrotator.Value) error {
		w.value("kept value", v)
		return nil
	}

	for placeName, place := range places {
		for _, codingName := range []string{"raw", "form", "base64"} {
			name := fmt.Sprintf("%s, %s", placeName, codingName)
			server.set(place, codings[codingName])
			w.err("hook, "+name, hook.Set(ctx, change))
			_, err := registration.Issue(ctx, value, keep)
			w.err("registration, "+name, err)
			for testName, test := range tests {
				if codingName == "raw" || testName == "basic" {
					w.err(testName+", "+name, test.Test(ctx, change))
				}
			}
			if server.requests() < 3 {
				t.Errorf("%s: %d requests with credentials", name, server.requests())
			}
			coding := codings[codingName]
			server.handle((&registrar{update: func(w http.ResponseWriter, _ *http.Request) {
				place(w, coding(registrationToken)+" "+coding(clientSecret))
			}}).ServeHTTP)
			_, err = registration.Issue(ctx, value, keep)
			w.err("update, "+name, err)
			if err == nil {
				t.Errorf("%s: an update went through", name)
			}
		}
	}
	for _, test := range tests {
		w.value("token test", test)
	}
	testRotatorSteps(t, w, server)
	testRotatorOptions(t, w, value)
}

// registeredValue is a value as a rotator hands it on.
func registeredValue(t *testing.T, w *watch, server *echoServer, registration *secretrotator.Registration) (value secretrotator.Value) {
	t.Helper()
	server.handle((&registrar{}).ServeHTTP)
	aws := awsfake.New(nil)
	defer aws.Close()
	aws.CreateSecret("smart/app", storedValue(server))
	spy := &spyingIssuer{registration, func(v secretrotator.Value) { value = v }}
	r, err := secretrotator.New(secretsClient(aws), spy, secretrotator.TesterFunc(func(context.Context, secretrotator.Change) error { return nil }),
		&secretrotator.Options{Field: "client_secret"})
	if err != nil {
		t.Fatal(err)
	}
	addSession(aws)
	_, err = r.Rotate(t.Context(), "smart/app")
	w.err("rotate", err)
	if _, ok := value.Member("client_secret"); !ok || err != nil {
		t.Fatalf("no value: %v", err)
	}
	return value
}

// storedValue is what Secrets Manager keeps of a registration.
func storedValue(server *echoServer) string {
	text, _ := json.Marshal(map[string]string{
		"client_secret": clientSecret, "registration_client_uri": server.URL + "/register/app", "registration_access_token": registrationToken, "other": accessToken,
	})
	return string(text)
}

func addSession(aws *awsfake.Server) {
	aws.AddCredential(awsfake.Credential{AccessKeyID: awsfake.AccessKeyID, SecretAccessKey: awsfake.SecretAccessKey, SessionToken: awsSession})
}

// A spyingIssuer shows the value that it is asked to change.
type spyingIssuer struct {
	*secretrotator.Registration
	saw func(secretrotator.Value)
}

func (s *spyingIssuer) Issue(ctx context.Context, current secretrotator.Value, keep func(context.Context, secretrotator.Value) error) (secretrotator.Value, error) {
	s.saw(current)
	return s.Registration.Issue(ctx, current, keep)
}

// rotationAnswers are servers behind a rotation: all that a hook, a registration
// and a token endpoint say.
func rotationAnswers(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/rotate":
		oauthError(w, http.StatusOK, map[string]string{"version": r.Header.Get("X-Version"), "status": "set"})
	case "/token":
		tokenAnswer(w, r)
	default:
		(&registrar{}).ServeHTTP(w, r)
	}
}

// testRotatorSteps runs the steps with all that can go wrong at Secrets Manager
// and behind it.
func testRotatorSteps(t *testing.T, w *watch, server *echoServer) {
	hook, registration, tests := newRotation(t, w, server)
	ctx := t.Context()
	for kind, setter := range map[string]secretrotator.Setter{"hook": hook, "registration": registration} {
		for at, breaks := range append(awsFaults, func(s *awsfake.Server) func() { return s.FailDecryption("smart/app") }) {
			for _, operation := range []string{"", "PutSecretValue", "UpdateSecretVersionStage"} {
				if operation != "" && at != 0 {
					continue
				}
				aws := awsfake.New(nil)
				addSession(aws)
				arn := aws.CreateSecret("smart/app", storedValue(server))
				if operation != "" {
					breaks = func(s *awsfake.Server) func() {
						return s.Inject(awsfake.Fault{Operation: operation, Garble: true, Status: http.StatusBadRequest})
					}
				}
				if server.handle(rotationAnswers); at%2 == 1 {
					server.set(places["description"], codings["raw"])
				}
				r, err := secretrotator.New(secretsClient(aws), setter, tests["basic"], &secretrotator.Options{Field: "client_secret"})
				if err != nil {
					t.Fatal(err)
				}
				repair := breaks(aws)
				version, err := r.Rotate(ctx, arn)
				w.err(kind, err)
				for _, step := range secretrotator.Steps {
					_, err := r.RunStep(ctx, step, arn, version)
					w.err(kind, err)
					event := secretrotator.Event{Step: step, SecretID: arn, ClientRequestToken: version, RotationToken: rotationToken}
					w.input("event", event)
					w.err(kind, r.Handle(ctx, event))
				}
				w.value("rotator", r)
				repair()
				for _, stage := range []string{awsfake.Current, awsfake.Pending, awsfake.Previous} {
					var members map[string]string
					_ = json.Unmarshal([]byte(aws.SecretString("smart/app", stage)), &members)
					w.secret("stored secret", members["client_secret"])
				}
				if kind == "registration" && at == 0 && operation == "" && aws.SecretString("smart/app", awsfake.Current) == storedValue(server) {
					t.Error("a working rotation: not rotated")
				}
				aws.Close()
			}
		}
	}
	// What stands in the store is not what it should be.
	for _, text := range []string{clientSecret, `{"client_secret": ["` + accessToken + `"]}`, `{"client_secret": "` + accessToken + `", "client_secret": "x"}`, `{"client_secret": "` + accessToken + `"`, `{"client_secret": "` + accessToken + `", "registration_client_uri": "http://user:` + accessToken + `@h/%zz", "registration_access_token": "` + accessToken + ` x"}`} {
		aws := awsfake.New(nil)
		addSession(aws)
		aws.CreateSecret("smart/app", text)
		r, err := secretrotator.New(secretsClient(aws), registration, tests["basic"], &secretrotator.Options{Field: "client_secret"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Rotate(ctx, "smart/app")
		w.err("what is stored", err)
		if err == nil {
			t.Errorf("%s: no error", text)
		}
		aws.Close()
	}
}

// testRotatorOptions has secrets in the wrong places.
func testRotatorOptions(t *testing.T, w *watch, value secretrotator.Value) {
	token := secretsource.Static([]byte(clientSecret)) // no Bearer token
	for _, url := range []string{accessToken, "http://" + accessToken, "https://user:" + accessToken + "@h/", "https://h/%zz" + accessToken, "https://h/?token=" + accessToken, "https://h/#" + accessToken, "https://127.0.0.1:1/" + "x"} {
		hook, err := secretrotator.NewHook(url, token, nil)
		w.err("new hook", err)
		if err == nil {
			w.err("hook", hook.Set(t.Context(), secretrotator.Change{Pending: value.Secret()}))
		}
	}
	_, err := secretrotator.NewRegistration(secretrotator.RegistrationOptions{ClientID: "", Overlap: 1})
	w.err("new registration", err)
	_, err = secretrotator.NewTokenTest(smartauth.Config{BaseURL: "https://u:" + accessToken + "@h", ClientID: "app", TokenEndpoint: accessToken}, &secretrotator.TokenTestOptions{
		Request: secretrotator.TestRequest(accessToken), Method: provider.Method(accessToken), Encoding: provider.SecretEncoding(accessToken),
	})
	w.err("new token test", err)
	_, err = secretrotator.New(nil, nil, nil, &secretrotator.Options{Field: accessToken, Length: 3})
	w.err("new", err)
}
