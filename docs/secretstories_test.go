package docs_test

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/rotation"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// secretStories are what the pages tell of secrets. Each checks what the page
// promises.
var secretStories = map[string]func(*story){
	"both are taken for a while": func(s *story) {
		s.startSecret(provider.RotationOptions{})
		s.wantFailed(s.call(10*time.Minute), 0)
		s.server.SetSecrets(clientID, "old-secret", "new-secret")
		s.rotateSecret("new-secret")
		s.wantFailed(s.call(10*time.Minute), 0)
		s.server.SetSecrets(clientID, "new-secret")
		s.remove("secret.previous")
		s.wantFailed(s.call(10*time.Minute), 0)
		s.wantRefused(0)
		s.expect("credential_selected", "credential_selected")
	},
	"the source before the server": func(s *story) {
		s.startSecret(provider.RotationOptions{})
		s.wantFailed(s.call(time.Minute), 0)
		s.rotateSecret("new-secret")
		s.wantFailed(s.call(5*time.Minute), 0)
		s.server.SetSecrets(clientID, "new-secret")
		s.wantFailed(s.call(time.Hour), 0)
		s.expect("credential_selected", "credential_fallback", "credential_selected")
	},
	"the server before the source": func(s *story) {
		s.startSecret(provider.RotationOptions{})
		s.must(s.fresh())
		s.server.SetSecrets(clientID, "new-secret")
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			s.mustFail(s.fresh())
		}
		s.rotateSecret("new-secret")
		time.Sleep(2 * time.Second)
		s.must(s.fresh())
		if _, refused := s.requests(); refused > 10 {
			s.Errorf("%d refused requests", refused)
		}
	},
	"current moves on and no previous is left": func(s *story) {
		s.startSecret(provider.RotationOptions{})
		s.wantFailed(s.call(time.Minute), 0)
		s.server.SetSecrets(clientID, "new-secret")
		s.put("secret", "new-secret\n")
		s.wantFailed(s.call(5*time.Minute), 0)
		s.wantRefused(0)
		s.expect("credential_selected", "token_dropped", "credential_selected")
	},
	"going back": func(s *story) {
		s.startSecret(provider.RotationOptions{})
		s.wantFailed(s.call(time.Minute), 0)
		s.server.SetSecrets(clientID, "old-secret", "new-secret")
		s.rotateSecret("new-secret")
		s.wantFailed(s.call(10*time.Minute), 0)
		s.move("secret.previous", "secret")
		s.server.SetSecrets(clientID, "old-secret")
		s.wantFailed(s.call(10*time.Minute), 0)
		s.wantRefused(0)
	},
	"mistyped": func(s *story) {
		s.startSecret(provider.RotationOptions{})
		s.must(s.fresh())
		s.put("secret", "mistyped\n")
		time.Sleep(time.Minute)
		s.mustFail(s.fresh())
		s.put("secret", "old-secret\n")
		time.Sleep(2 * time.Second)
		s.must(s.fresh())
		s.rotateSecret("new-secret")
		s.server.SetSecrets(clientID, "new-secret")
		time.Sleep(time.Minute)
		s.must(s.fresh())
	},
	"refused for a day": func(s *story) {
		s.server.SetSecrets(clientID, "another")
		s.startSecret(provider.RotationOptions{})
		s.call(59 * time.Minute)
		s.wantRefused(12)
		if left := s.status().HourlyBudget; left != 0 {
			s.Errorf("%d are left of the hour's budget", left)
		}
		err := s.fresh()
		var refused *rotation.RefusedError
		if !errors.As(err, &refused) || !refused.BudgetSpent {
			s.Fatalf("%v, want a spent budget", err)
		}
		if !strings.Contains(s.log.String(), refused.Until.UTC().Format(time.RFC3339)) {
			s.Errorf("until %s, which no all_refused names", refused.Until)
		}
		s.say(err)
		s.call(23 * time.Hour)
		if _, refused := s.requests(); refused > 40 {
			s.Errorf("%d refused requests in a day", refused)
		}
	},
	"repaired at the server": func(s *story) {
		s.startSecret(provider.RotationOptions{})
		s.must(s.fresh())
		s.server.SetSecrets(clientID, "another")
		s.call(time.Hour)
		s.server.SetSecrets(clientID, "old-secret")
		if failed := s.call(10 * time.Minute); failed > 300 {
			s.Errorf("healed after %d s only", failed)
		}
		if !strings.Contains(s.log.String(), "is in use after all were refused") {
			s.Error("nobody is told that it works again")
		}
	},
	"reset": func(s *story) {
		s.server.SetSecrets(clientID, "another")
		s.startSecret(provider.RotationOptions{})
		s.call(30 * time.Minute)
		s.server.SetSecrets(clientID, "old-secret")
		s.provider.Reset(s.ctx, clientID, server)
		s.must(s.fresh())
	},
	"leaked and previous never": func(s *story) {
		s.startSecret(provider.RotationOptions{Previous: provider.PreviousNever})
		s.server.SetSecrets(clientID, "old-secret", "new-secret")
		s.wantFailed(s.call(30*time.Second), 0)
		s.rotateSecret("new-secret")
		s.wantFailed(s.call(3*time.Minute), 0)
		s.expect("credential_selected", "token_dropped", "credential_selected")
	},
	"leaked and destroyed": func(s *story) {
		s.startSecret(provider.RotationOptions{})
		s.wantFailed(s.call(30*time.Second), 0)
		s.rotateSecret("new-secret")
		s.server.SetSecrets(clientID, "new-secret")
		s.remove("secret.previous")
		s.wantFailed(s.call(3*time.Minute), 0)
		s.wantRefused(0)
		s.expect("credential_selected", "token_dropped", "credential_selected")
	},
	"revoked by the configuration": func(s *story) {
		s.startSecret(provider.RotationOptions{})
		s.wantFailed(s.call(30*time.Second), 0)
		s.rotateSecret("new-secret")
		s.server.SetSecrets(clientID, "new-secret")
		s.provider.SetRevoked(s.ctx, []string{s.status().InForce.Version})
		s.wantFailed(s.call(3*time.Minute), 0)
		s.wantRefused(0)
		s.expect("credential_selected", "token_dropped", "credential_selected")
	},
	"the file is gone": func(s *story) {
		s.put("secret.previous", "older\n")
		s.startSecret(provider.RotationOptions{})
		s.wantFailed(s.call(30*time.Second), 0)
		s.remove("secret")
		s.call(3 * time.Minute)
		err := s.fresh()
		if !errors.Is(err, smartcred.ErrNotFound) {
			s.Errorf("%v, want not found: previous takes no one's place", err)
		}
		s.wantRefused(0)
		s.expect("credential_selected", "secret_revoked", "token_dropped")
		s.say(err)
	},
	"the source is down, then denies": func(s *story) {
		s.put("secret", "old-secret\n")
		source := &unreliable{Source: s.file("secret")}
		s.withSecret(source, provider.RotationOptions{})
		s.must(s.fresh())
		source.fail(&smartcred.UnavailableError{Err: errors.New("connection timed out")})
		time.Sleep(2 * time.Minute)
		s.must(s.fresh())
		if s.status().Degraded == nil {
			s.Error("the status says nothing of the outage")
		}
		source.fail(smartcred.ErrDenied)
		time.Sleep(2 * time.Minute)
		s.mustFail(s.fresh())
		s.expect("credential_selected", "stale_in_use", "backend_denied")
	},
	"the state file fails": func(s *story) {
		folder := s.path("state")
		s.must(os.Mkdir(folder, 0o700))
		s.startSecret(provider.RotationOptions{Memory: rotation.File(folder + "/smartcred.json")})
		s.must(s.fresh())
		s.must(os.RemoveAll(folder))
		time.Sleep(2 * time.Minute)
		s.must(s.fresh())
		if !strings.Contains(s.log.String(), " kind=memory_failed ") {
			s.Error("nobody is told")
		}
	},
	"the state file fails from the start": func(s *story) {
		s.startSecret(provider.RotationOptions{Memory: rotation.File(s.path("missing/smartcred.json"))})
		s.must(s.fresh())
		if !strings.Contains(s.log.String(), " kind=memory_failed ") {
			s.Error("nobody is told")
		}
	},
	"the state file serves a second process": func(s *story) {
		state := rotation.File(s.path("state.json"))
		s.server.SetSecrets(clientID, "another")
		s.startSecret(provider.RotationOptions{Memory: state})
		s.mustFail(s.fresh())
		s.must(s.client.Close())
		s.startSecret(provider.RotationOptions{Memory: state})
		s.mustFail(s.fresh())
		s.wantRefused(1)
	},
	"a flaky server": func(s *story) {
		s.startSecret(provider.RotationOptions{})
		s.must(s.fresh())
		s.server.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Times: 1, Error: "invalid_client"})
		s.must(s.fresh())
		s.expect("credential_selected")
	},
}
