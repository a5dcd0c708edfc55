package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred/internal/awsfake"
)

// A runtimeAPI is Lambda's runtime interface: the function's process asks it for
// the next invocation and posts how it ended.
type runtimeAPI struct {
	events chan string
	ended  chan string // the body, after "response " or "error "
}

func (l *runtimeAPI) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	const base = "/2018-06-01/runtime/invocation/"
	switch {
	case r.URL.Path == base+"next":
		select {
		case event := <-l.events:
			rw.Header().Set("Lambda-Runtime-Aws-Request-Id", "1")
			rw.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()))
			_, _ = io.WriteString(rw, event)
		case <-r.Context().Done():
		}
	case strings.HasPrefix(r.URL.Path, base+"1/"):
		body, _ := io.ReadAll(r.Body)
		rw.WriteHeader(http.StatusAccepted)
		l.ended <- strings.TrimPrefix(r.URL.Path, base+"1/") + " " + string(body)
	default:
		rw.WriteHeader(http.StatusNotFound)
	}
}

// The program as Lambda runs it: environment variables, no arguments.
func TestLambda(t *testing.T) {
	w := newWorld(t, firstValue)
	api := &runtimeAPI{events: make(chan string), ended: make(chan string)}
	srv := httptest.NewServer(api)
	defer srv.Close()
	w.env = append(w.env, "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(srv.URL, "http://"),
		"SMARTCRED_ROTATE_CLIENT_ID=my-app", "SMARTCRED_ROTATE_BASE_URL="+w.ehr.URL, "SMARTCRED_ROTATE_SCOPES=system/*.rs",
		"SMARTCRED_ROTATE_HOOK="+w.url+"/hook", "SMARTCRED_ROTATE_HOOK_TOKEN=env:HOOK_TOKEN", "SMARTCRED_ROTATE_ALLOW_INSECURE_LOOPBACK=true")
	cmd := w.command()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	version := w.aws.StageSecret("smart", "not enabled yet", "MINE")
	invoke := func(step string) string {
		event, err := json.Marshal(map[string]string{"Step": step, "SecretId": "smart", "ClientRequestToken": version})
		if err != nil {
			t.Fatal(err)
		}
		api.events <- string(event)
		return <-api.ended
	}
	if answer := invoke("createSecret"); !strings.HasPrefix(answer, "error ") || !strings.Contains(answer, "rotation is not enabled") {
		t.Errorf("not enabled: %s", answer)
	}
	version = w.rotateSecret()
	for _, step := range []string{"createSecret", "setSecret", "testSecret", "finishSecret"} {
		if answer := invoke(step); answer != "response null" {
			t.Errorf("%s: %s", step, answer)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // killed, as Lambda ends its processes
	if w.aws.Version("smart", awsfake.Current) != version || w.aws.SecretString("smart", awsfake.Previous) != firstValue {
		t.Error("not rotated")
	}
	w.noLeak(log.String())
	if !strings.Contains(log.String(), `"step":"finishSecret"`) || !strings.Contains(log.String(), "rotation step failed") {
		t.Errorf("the log lacks steps:\n%s", log.String())
	}
}

// A function whose settings are wrong says so at its start.
func TestLambdaSettings(t *testing.T) {
	w := newWorld(t, firstValue)
	w.env = append(w.env, "AWS_LAMBDA_RUNTIME_API=127.0.0.1:1", "SMARTCRED_ROTATE_LENGTH="+hookToken)
	_, stderr, status := w.run()
	if status != exitUsage || !strings.Contains(stderr, "SMARTCRED_ROTATE_LENGTH") {
		t.Errorf("status %d\n%s", status, stderr)
	}
}
