package smartauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"sync"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// A webSession keeps pending launches on the server: the browser has a cookie
// that finds its own, and nobody else's.
type webSession struct {
	mu      sync.Mutex
	pending map[string][]byte
}

func (s *webSession) put(w http.ResponseWriter, launch *smartauth.Launch) {
	id := smartauth.NewCodeVerifier() // any random text
	s.mu.Lock()
	s.pending[id] = launch.Save()
	s.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: "__Host-launch", Value: id, Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode})
}

// take removes the launch: it completes once.
func (s *webSession) take(r *http.Request) (*smartauth.Launch, error) {
	cookie, err := r.Cookie("__Host-launch")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	saved := s.pending[cookie.Value]
	delete(s.pending, cookie.Value)
	return smartauth.RestoreLaunch(saved)
}

// A web app: one handler sends the browser to log in, one takes the callback.
func ExampleClient_Exchange() {
	ehr := smartauthtest.NewUnstarted(nil)
	defer ehr.Close()
	mux := http.NewServeMux()
	app := httptest.NewTLSServer(mux)
	defer app.Close()
	ehr.AddClient(smartauthtest.Client{ID: "my-app", RedirectURIs: []string{app.URL + "/callback"}})

	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL:     ehr.URL,
		ClientID:    "my-app",
		RedirectURL: app.URL + "/callback",
		Scopes:      []string{"openid", "fhirUser", "launch/patient", "patient/*.rs"},
		Provider:    provider.Public{}, // a server-side app has a key or a secret
		HTTPClient:  ehr.Client(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	session := &webSession{pending: map[string][]byte{}}

	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		launch, err := client.StartLaunch(r.Context(), nil)
		if err != nil {
			http.Error(w, "log-in is not possible now", http.StatusBadGateway)
			return
		}
		session.put(w, launch)
		http.Redirect(w, r, launch.URL(), http.StatusFound)
	})
	mux.HandleFunc("/callback", func(w http.ResponseWriter, r *http.Request) {
		launch, err := session.take(r)
		if err != nil {
			http.Error(w, "please log in again", http.StatusBadRequest)
			return
		}
		token, err := client.Exchange(r.Context(), launch, r.URL.Query())
		if err != nil {
			http.Error(w, "log-in failed", http.StatusForbidden) // the error itself is for the log
			return
		}
		fmt.Fprintf(w, "%s for patient %s", token.Identity().FHIRUser, token.Context.Patient)
	})

	// From here on: the browser, and the user who agrees.
	browser := app.Client()
	browser.Jar, _ = cookiejar.New(nil)
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	toEHR, err := browser.Get(app.URL + "/login")
	if err != nil {
		fmt.Println(err)
		return
	}
	toEHR.Body.Close()
	back, err := ehr.Authorize(context.Background(), toEHR.Header.Get("Location"))
	if err != nil {
		fmt.Println(err)
		return
	}
	page, err := browser.Get(back.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer page.Body.Close()
	var text [100]byte
	n, _ := page.Body.Read(text[:])
	fmt.Println(page.StatusCode, string(text[:n]))
	// Output: 200 https://ehr.example.test/fhir/r4/Practitioner/prac-1 for patient pat-1
}
