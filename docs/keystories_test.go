package docs_test

import (
	"net/http"
	"time"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// keyStories are what the pages tell of keys. Each checks what the page promises.
var keyStories = map[string]func(*story){
	"staged, then moved into place": func(s *story) {
		k := keyPEMs()
		s.startKey(provider.RotationOptions{})
		s.wantFailed(s.call(5*time.Minute), 0)
		s.put("key.pem.next", k[1])
		s.wantFailed(s.call(5*time.Minute), 0)
		s.register(k[0], k[1])
		s.wantFailed(s.call(24*time.Hour), 0)
		s.activateKey()
		s.wantFailed(s.call(time.Hour), 0)
		s.register(k[1])
		s.remove("key.pem.previous")
		s.wantFailed(s.call(time.Hour), 0)
		s.wantRefused(0)
		s.expect("key_published", "key_activated", "credential_selected",
			"key_published", "key_activated", "credential_selected", "key_revoked")
	},
	"going back": func(s *story) {
		k := keyPEMs()
		s.put("key.pem.next", k[1])
		s.startKey(provider.RotationOptions{})
		s.register(k[0], k[1])
		s.wantFailed(s.call(time.Minute), 0)
		s.activateKey()
		s.wantFailed(s.call(10*time.Minute), 0)
		s.link("key.pem", "key.pem.next")
		s.move("key.pem.previous", "key.pem")
		s.wantFailed(s.call(10*time.Minute), 0)
		s.wantRefused(0)
		if first, err := s.keys.Signing(s.ctx, nil); err != nil || first.ID != s.asSigner(k[0], "", time.Time{}).key.ID {
			s.Errorf("%s signs, %v", first.ID, err)
		}
	},
	"the server takes one key only": func(s *story) {
		k := keyPEMs()
		s.put("key.pem.next", k[1])
		s.startKey(provider.RotationOptions{})
		s.wantFailed(s.call(time.Minute), 0)
		s.register(k[1])
		s.wantFailed(s.call(time.Hour), 0)
		if !s.status().Adopted {
			s.Error("the staged key is not adopted")
		}
		s.activateKey()
		s.wantFailed(s.call(time.Hour), 0)
		if s.status().Adopted {
			s.Error("the key is adopted still")
		}
		s.wantRefused(2) // what had worked is sent once more before the next one
	},
	"moved before the server is told": func(s *story) {
		k := keyPEMs()
		s.startKey(provider.RotationOptions{})
		s.wantFailed(s.call(time.Minute), 0)
		s.put("key.pem.next", k[1])
		s.activateKey()
		s.wantFailed(s.call(5*time.Minute), 0)
		s.register(k[1])
		s.wantFailed(s.call(time.Hour), 0)
	},
	"versions of a backend": func(s *story) {
		k := keyPEMs()
		v := new(versioned)
		one, two := s.asSigner(k[0], "1", time.Time{}), s.asSigner(k[1], "2", time.Now())
		v.set(two, one)
		s.register(k...)
		s.withKeys(v, provider.RotationOptions{})
		s.wantFailed(s.call(time.Hour), 0)
		v.set(s.asSigner(k[2], "3", time.Now().Add(24*time.Hour)), two, one)
		s.wantFailed(s.call(72*time.Hour), 0)
		s.wantRefused(0)
		s.expect("key_published", "key_activated", "key_published", "credential_selected",
			"key_published", "key_activated", "key_retired", "credential_selected")
	},
	"the server never takes the new version": func(s *story) {
		k := keyPEMs()
		v := new(versioned)
		v.set(s.asSigner(k[1], "2", time.Now()), s.asSigner(k[0], "1", time.Time{}))
		s.register(k[0])
		s.withKeys(v, provider.RotationOptions{})
		for range 8 * 24 {
			time.Sleep(time.Hour)
			s.must(s.fresh())
		}
		if _, refused := s.requests(); refused > 8*40 {
			s.Errorf("%d refused requests in 8 days", refused)
		}
	},
	"revoked by the configuration": func(s *story) {
		k := keyPEMs()
		s.put("key.pem.next", k[1])
		s.startKey(provider.RotationOptions{})
		s.register(k[0], k[1])
		s.wantFailed(s.call(30*time.Second), 0)
		leaked, err := s.keys.Signing(s.ctx, nil)
		s.must(err)
		s.provider.SetRevoked(s.ctx, []string{leaked.ID})
		s.wantFailed(s.call(3*time.Minute), 0)
		s.wantRefused(0)
		s.expect("key_published", "key_published", "key_activated", "credential_selected",
			"key_revoked", "key_activated", "token_dropped", "credential_selected")
	},
	"leaked and previous never": func(s *story) {
		k := keyPEMs()
		s.put("key.pem.next", k[1])
		s.startKey(provider.RotationOptions{Previous: provider.PreviousNever})
		s.register(k[0], k[1])
		s.wantFailed(s.call(30*time.Second), 0)
		s.activateKey()
		s.wantFailed(s.call(3*time.Minute), 0)
		s.wantRefused(0)
		if published, err := s.keys.Published(s.ctx); err != nil || len(published) != 1 || published[0].ID != s.asSigner(k[1], "", time.Time{}).key.ID {
			s.Errorf("published: %v, %v", published, err)
		}
		s.expect("key_published", "key_published", "key_activated", "credential_selected",
			"key_revoked", "key_activated", "token_dropped", "credential_selected")
	},
	"only one kid is allowed": func(s *story) {
		k := keyPEMs()
		s.put("key.pem.previous", k[1])
		s.put("key.pem", k[0])
		file, err := signer.File(s.path("key.pem"), nil)
		s.must(err)
		keys, err := signer.NewKeySet(file, &signer.KeySetOptions{
			AllowedKIDs: []string{s.asSigner(k[1], "", time.Time{}).key.ID}, Observer: s.observer(),
		})
		s.must(err)
		defer keys.Close()
		key, err := keys.Signing(s.ctx, nil)
		s.must(err)
		if key.ID != s.asSigner(k[1], "", time.Time{}).key.ID {
			s.Error("another key signs")
		}
	},
	"the clocks differ": func(s *story) {
		k := keyPEMs()
		s.put("key.pem.previous", k[1])
		s.startKey(provider.RotationOptions{})
		s.server.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{
			Times: 1, Error: "invalid_client",
			Header: http.Header{"Date": {time.Now().Add(-5 * time.Minute).UTC().Format(http.TimeFormat)}},
		})
		s.mustFail(s.fresh())
		s.wantRefused(1)
	},
	"a next file that can't be used": func(s *story) {
		s.put("key.pem.next", "not a key")
		s.startKey(provider.RotationOptions{})
		s.must(s.fresh())
		s.expect("key_left_out", "key_published", "key_activated", "credential_selected")
	},
	"the file is gone": func(s *story) {
		s.startKey(provider.RotationOptions{})
		s.wantFailed(s.call(30*time.Second), 0)
		s.remove("key.pem")
		s.call(2 * time.Minute)
		s.mustFail(s.fresh())
		s.expect("key_published", "key_activated", "credential_selected", "key_revoked", "token_dropped")
	},
}
