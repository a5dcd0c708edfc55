package canary

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awskms"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

const (
	awsSession   = "sT4kW8zR1qX6cN3bM9sL5fJ2/pQ7mZ2xK9vB4nR8t="
	awsIdentity  = "eyJhbGciOiJub25lIn0.wI3tR8nQ5vZ1xL7kD2sF9gH4jB6mC0p.sX"
	awsContainer = "cA7vM2nX9qK4wT6zR1yL8dP3fJ5hB0gS"
)

// awsSecrets are what a process has to be known by at AWS.
func awsSecrets(w *watch) {
	for name, value := range map[string]string{
		"AWS secret key": awsfake.SecretAccessKey, "AWS access key": awsfake.AccessKeyID, "AWS session token": awsSession,
		"web identity": awsIdentity, "container's token": awsContainer,
	} {
		w.secret(name, value)
	}
}

// setAWS makes the environment what variables say, and nothing else of AWS.
func setAWS(t *testing.T, variables map[string]string) {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	for name, value := range variables {
		t.Setenv(name, value)
	}
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
}

// echoAWS answers with what it was sent and with the values that AWS has, in the
// shape and with the status that is set.
type echoAWS struct {
	shape  atomic.Int32
	status atomic.Int32
	got    atomic.Int32
}

const awsShapes = 8

func (a *echoAWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.got.Add(1)
	body, _ := io.ReadAll(r.Body)
	echo := fmt.Sprintf("%s %s %v %s", r.Method, r.URL, r.Header, body)
	status := int(a.status.Load())
	reply := func(answer any) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("Retry-After", "3")
		for _, name := range []string{"X-Amzn-Requestid", "X-Amz-Request-Id", "X-Amz-Cf-Id", "Date"} {
			w.Header().Set(name, headerText(echo))
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(echo + clientSecret))
	switch a.shape.Load() {
	case 0:
		w.WriteHeader(status)
		_, _ = io.WriteString(w, echo+clientSecret)
	case 1:
		w.Header().Set("X-Amzn-Errortype", headerText(clientSecret+echo))
		reply(map[string]any{"__type": clientSecret + echo, "message": echo, "Message": clientSecret, "code": echo})
	case 2: // one of AWS's own errors, also as XML for STS
		code := map[int]string{400: "ValidationException", 403: "AccessDeniedException", 404: "ResourceNotFoundException", 500: "InternalFailure"}[status]
		w.Header().Set("X-Amzn-Errortype", code)
		if strings.Contains(r.Header.Get("Content-Type"), "form") {
			w.WriteHeader(status)
			fmt.Fprintf(w, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>%s%s</Message></Error><RequestId>%[1]s</RequestId></ErrorResponse>", url.QueryEscape(echo), awsIdentity)
			return
		}
		reply(map[string]any{"__type": code, "message": echo + clientSecret})
	case 3:
		reply(map[string]any{
			"ARN": clientSecret, "Name": echo, "VersionId": clientSecret, "VersionStages": []string{clientSecret, "AWSCURRENT", echo}, "SecretString": clientSecret, "CreatedDate": 1,
			"KeyId": clientSecret, "PublicKey": encoded, "Signature": encoded, "KeySpec": clientSecret, "KeyUsage": echo, "SigningAlgorithms": []string{echo},
			"KeyMetadata": map[string]any{"Arn": clientSecret, "KeyId": clientSecret, "KeySpec": echo, "KeyState": clientSecret, "KeyUsage": clientSecret, "Origin": clientSecret},
		})
	case 4:
		arn := "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"
		reply(map[string]any{
			"ARN": "arn", "Name": "smart", "VersionId": "11111111-2222-3333-4444-555555555555", "VersionStages": []string{"AWSCURRENT"}, "SecretString": clientSecret, "CreatedDate": 1,
			"KeyId": arn, "PublicKey": encoded, "Signature": encoded, "KeySpec": "ECC_NIST_P384", "KeyUsage": "SIGN_VERIFY", "SigningAlgorithms": []string{"ECDSA_SHA_384"},
			"KeyMetadata": map[string]any{
				"Arn": arn, "KeyId": "11111111-2222-3333-4444-555555555555", "KeySpec": "ECC_NIST_P384", "KeyState": "Enabled", "Enabled": true,
				"KeyUsage": "SIGN_VERIFY", "Origin": clientSecret, "KeyManager": echo, "Description": clientSecret, "SigningAlgorithms": []string{"ECDSA_SHA_384"},
			},
		})
	case 5:
		reply(map[string]any{"KeyMetadata": []string{echo}, "SecretString": []string{clientSecret}, "CreatedDate": clientSecret, "PublicKey": echo})
	case 6:
		w.Header().Set("Location", "http://"+clientSecret[:3]+".example.com/"+url.QueryEscape(echo))
		w.WriteHeader(http.StatusTemporaryRedirect)
	default:
		raw(w, "HTTP/1.1 "+headerText(echo)+"\r\n"+clientSecret+"\r\n\r\n")
	}
}

func testAWS(t *testing.T) {
	w := newCommonWatch(t)
	awsSecrets(w)
	echo := &echoAWS{}
	server := httptest.NewServer(echo)
	t.Cleanup(server.Close)
	empty := map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_ENDPOINT_URL_STS": server.URL, "AWS_REGION": awsfake.Region, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	}
	with := func(more map[string]string) map[string]string {
		all := map[string]string{}
		for _, variables := range []map[string]string{empty, more} {
			for name, value := range variables {
				all[name] = value
			}
		}
		return all
	}
	keys := map[string]string{"AWS_ACCESS_KEY_ID": awsfake.AccessKeyID, "AWS_SECRET_ACCESS_KEY": awsfake.SecretAccessKey, "AWS_SESSION_TOKEN": awsSession}
	profile := writeFile(t, "profile", "[default]\naws_access_key_id = "+awsfake.AccessKeyID+"\naws_secret_access_key = "+awsfake.SecretAccessKey+"\n[profile helped]\ncredential_process = /bin/echo "+clientSecret[:3]+awsfake.SecretAccessKey+"\n")
	ways := map[string]map[string]string{
		"keys":         with(keys),
		"profile":      with(map[string]string{"AWS_CONFIG_FILE": profile}),
		"helper":       with(map[string]string{"AWS_CONFIG_FILE": profile, "AWS_PROFILE": "helped"}),
		"web identity": with(map[string]string{"AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/app", "AWS_WEB_IDENTITY_TOKEN_FILE": writeFile(t, "identity", awsIdentity)}),
		"container":    with(map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL + "/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN": awsContainer}),
		"broken file":  with(map[string]string{"AWS_CONFIG_FILE": writeFile(t, "broken", "[profile "+awsSession+"\naws_secret_access_key = "+awsfake.SecretAccessKey+"\n"+awsSession+"\n")}),
		"half":         with(map[string]string{"AWS_ACCESS_KEY_ID": awsfake.AccessKeyID}),
		"swapped":      with(map[string]string{"AWS_REGION": awsfake.SecretAccessKey, "AWS_ACCESS_KEY_ID": awsfake.SecretAccessKey, "AWS_SECRET_ACCESS_KEY": awsfake.AccessKeyID}),
		"endpoint":     with(map[string]string{"AWS_ENDPOINT_URL": "http://user:" + awsSession + "@127.0.0.1:1/%zz", "AWS_ACCESS_KEY_ID": awsfake.AccessKeyID, "AWS_SECRET_ACCESS_KEY": awsfake.SecretAccessKey}),
		"user":         with(map[string]string{"AWS_ENDPOINT_URL": "http://user:" + awsSession + "@127.0.0.1:1/", "AWS_ACCESS_KEY_ID": awsfake.AccessKeyID, "AWS_SECRET_ACCESS_KEY": awsfake.SecretAccessKey}),
	}
	asked := map[string]bool{"web identity": true, "container": true, "helper": true} // others give the credentials
	for name, variables := range ways {
		t.Run(name, func(t *testing.T) { // for its environment
			setAWS(t, variables)
			before := echo.got.Load()
			for shape := range awsShapes {
				echo.shape.Store(int32(shape))
				statuses := []int{200, 400, 403, 404, 500}
				switch {
				case asked[name] && shape > 2: // the SDK waits between its tries
					continue
				case name != "keys" && shape > 2 || shape >= awsShapes-2:
					statuses = statuses[:1]
				case asked[name]:
					statuses = statuses[1:2]
				}
				for _, status := range statuses {
					echo.status.Store(int32(status))
					if asked[name] {
						lookUpAWS(t, w, "")
					} else {
						useAWS(t, w, "")
					}
				}
			}
			if _, ok := map[string]bool{"keys": true, "profile": true, "web identity": true, "container": true}[name]; ok && echo.got.Load() == before {
				t.Error("no request")
			}
		})
	}
	if n := echo.got.Load(); n < 100 {
		t.Errorf("%d requests", n)
	}

	setAWS(t, ways["keys"])
	for _, query := range []string{
		"?region=" + awsSession, "?profile=" + awsSession, "?endpoint=" + awsSession, "?secret_access_key=" + url.QueryEscape(awsfake.SecretAccessKey), "?" + awsSession, "?next=" + awsSession,
		"?next=" + url.QueryEscape(clientSecret) + "&previous=" + url.QueryEscape(clientSecret), "?region=%zz" + awsSession, "/" + url.PathEscape(clientSecret), "%20" + accessToken,
	} {
		useAWS(t, w, query)
	}
	testAWSFaults(t, w)
}

// lookUpAWS looks one secret up by its URI, in one request if there is no stage.
func lookUpAWS(t *testing.T, w *watch, query string, more ...secretsource.Stage) {
	ctx := t.Context()
	src, err := secretsource.Open(ctx, "awssecretsmanager:///smart/app"+query, &secretsource.OpenOptions{AllowInsecureLoopback: true, Observer: w.observer()})
	w.err("open", err)
	if err != nil {
		return
	}
	for _, stage := range append(more, secretsource.Current) {
		secret, err := src.Lookup(ctx, stage)
		w.err("look up", err)
		w.value("secret", secret)
	}
	w.value("source", src)
	w.err("close", src.(io.Closer).Close())
	_, err = src.Lookup(ctx, secretsource.Current)
	w.err("closed", err)
}

// useAWS uses both packages through their URIs.
func useAWS(t *testing.T, w *watch, query string) {
	opts := &secretsource.OpenOptions{AllowInsecureLoopback: true, Observer: w.observer(), FingerprintKey: []byte(fingerprintKey)}
	ctx := t.Context()
	for _, field := range []string{"", "#client_secret"} {
		lookUpAWS(t, w, query+field, secretsource.Previous)
	}
	for _, key := range []string{"alias/smart", "11111111-2222-3333-4444-555555555555"} {
		s, err := signer.Open(ctx, "awskms:///"+key+query, &signer.OpenOptions{OpenOptions: *opts})
		w.err("open", err)
		if err != nil {
			continue
		}
		keys, err := s.Keys(ctx)
		w.err("list", err)
		keys = append(keys, signer.Key{ID: "kid", Version: "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555", Algorithm: signer.ES384})
		for _, key := range keys {
			w.value("key", key)
			_, err = s.Sign(ctx, key, []byte("input"))
			w.err("sign", err)
		}
		w.value("signer", s)
		w.err("close", s.(io.Closer).Close())
		_, err = s.Keys(ctx)
		w.err("closed", err)
	}
}

// testAWSFaults has an AWS that works fail in each way.
func testAWSFaults(t *testing.T, w *watch) {
	aws := awsfake.New(nil)
	t.Cleanup(aws.Close)
	aws.AddCredential(awsfake.Credential{AccessKeyID: awsfake.AccessKeyID, SecretAccessKey: awsfake.SecretAccessKey, SessionToken: awsSession})
	aws.SetAlias("alias/smart", aws.CreateKey(awsfake.Key{Spec: "ECC_NIST_P384"}))
	object, err := json.Marshal(map[string]string{"client_secret": clientSecret, "other": accessToken})
	if err != nil {
		t.Fatal(err)
	}
	aws.CreateSecret("smart/app", string(object))
	variables := aws.Environment()
	variables["AWS_SESSION_TOKEN"] = awsSession
	setAWS(t, variables)
	for _, breaks := range append(awsFaults, func(s *awsfake.Server) func() { return s.FailDecryption("smart/app") }) {
		repair := breaks(aws)
		useAWS(t, w, "")
		repair()
	}

	src, err := secretsource.Open(t.Context(), "awssecretsmanager:///smart/app#client_secret", &secretsource.OpenOptions{AllowInsecureLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := src.Lookup(t.Context(), secretsource.Current); string(secret.Reveal()) != clientSecret {
		t.Errorf("a working AWS: %v", err)
	}
	manager, err := awssecretsmanager.New(secretsClient(aws), "smart/app", &awssecretsmanager.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.value("source", manager)
	_, err = awssecretsmanager.New(secretsClient(aws), clientSecret, nil)
	w.err("new", err)
	s, err := awskms.New(kms.New(kms.Options{Region: awsfake.Region, BaseEndpoint: &aws.URL, Credentials: awsCredentials()}), "alias/smart", &awskms.Options{Observer: w.observer()})
	if err != nil {
		t.Fatal(err)
	}
	driveSigner(t.Context(), t, w, s, signer.KeySetOptions{})
	w.value("signer", s)
	_, err = awskms.New(nil, clientSecret, &awskms.Options{Next: []string{accessToken + "!"}, Algorithm: signer.Algorithm(accessToken)})
	w.err("new", err)
}

// awsFaults are what goes wrong at AWS: each lasts until it is repaired.
var awsFaults = []func(*awsfake.Server) (repair func()){
	func(*awsfake.Server) func() { return func() {} },
	func(s *awsfake.Server) func() { return s.Throttle("", 0) },
	func(s *awsfake.Server) func() { return s.Deny("", "") },
	func(s *awsfake.Server) func() { return s.Stop() },
	func(s *awsfake.Server) func() { return s.Inject(awsfake.Fault{Garble: true}) },
	func(s *awsfake.Server) func() {
		return s.Inject(awsfake.Fault{Garble: true, Status: http.StatusBadRequest})
	},
	func(s *awsfake.Server) func() {
		return s.Inject(awsfake.Fault{Garble: true, Status: http.StatusInternalServerError})
	},
	func(s *awsfake.Server) func() { return s.Inject(awsfake.Fault{Answer: "{}"}) },
	func(s *awsfake.Server) func() {
		return s.Inject(awsfake.Fault{Error: &awsfake.Error{Status: http.StatusBadRequest, Code: "InvalidRequestException", Message: clientSecret}})
	},
	func(s *awsfake.Server) func() {
		return s.Inject(awsfake.Fault{Change: func(answer map[string]any) {
			for name := range answer {
				answer[name] = clientSecret
			}
		}})
	},
}

func awsCredentials() aws.CredentialsProvider {
	return awscredentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, awsSession)
}

func secretsClient(s *awsfake.Server) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{Region: awsfake.Region, BaseEndpoint: &s.URL, RetryMaxAttempts: 1, Credentials: awsCredentials()})
}
