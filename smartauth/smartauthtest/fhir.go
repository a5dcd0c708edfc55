package smartauthtest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// patientStore holds the resources of the FHIR server.
type patientStore struct {
	mu   sync.RWMutex
	byID map[string]map[string]any
}

func (p *patientStore) init() {
	p.byID = map[string]map[string]any{}
	for id, family := range map[string]string{"pat-1": "Adams", "pat-2": "Baker"} {
		p.byID[id] = map[string]any{
			"resourceType": "Patient", "id": id, "active": true,
			"name": []any{map[string]any{"family": family, "given": []any{"Test"}}},
		}
	}
}

// SetPatient puts a Patient into the FHIR server, next to "pat-1" and "pat-2"
// that are there from the start; nil takes it out. resourceType and id are set.
// The map must not be changed afterwards.
func (s *Server) SetPatient(id string, members map[string]any) {
	s.patients.mu.Lock()
	defer s.patients.mu.Unlock()
	if members == nil {
		delete(s.patients.byID, id)
		return
	}
	members = maps.Clone(members)
	members["resourceType"], members["id"] = "Patient", id
	s.patients.byID[id] = members
}

func fhirAnswer(status int, resource any) *answer {
	ans := jsonAnswer(status, resource)
	ans.header.Set("Content-Type", "application/fhir+json")
	return ans
}

func outcome(status int, code, diagnostics string) *answer {
	ans := fhirAnswer(status, map[string]any{
		"resourceType": "OperationOutcome",
		"issue":        []any{map[string]any{"severity": "error", "code": code, "diagnostics": diagnostics}},
	})
	ans.reason = diagnostics
	return ans
}

func (s *Server) serveFHIR(x *exchange) *answer {
	path := strings.TrimPrefix(x.URL.EscapedPath(), s.basePath+"/")
	if x.Method != http.MethodGet {
		ans := outcome(http.StatusMethodNotAllowed, "not-supported", "only reading is supported")
		ans.header.Set("Allow", http.MethodGet)
		return ans
	}
	if path == "metadata" {
		return s.serveCapabilities()
	}
	token, refused := s.authorizeFHIR(x)
	if refused != nil {
		return refused
	}
	if instead := s.interrupt(x, Accepted); instead != nil {
		return instead
	}
	resource, id, isRead := strings.Cut(path, "/")
	if resource != "Patient" || strings.Contains(id, "/") || isRead && id == "" {
		return outcome(http.StatusNotFound, "not-found", "there is no such resource here")
	}
	if isRead {
		return s.readPatient(token, id)
	}
	return s.searchPatients(token, x)
}

func (s *Server) serveCapabilities() *answer {
	interaction := func(codes ...string) (list []any) {
		for _, code := range codes {
			list = append(list, map[string]any{"code": code})
		}
		return list
	}
	return fhirAnswer(http.StatusOK, map[string]any{
		"resourceType": "CapabilityStatement", "status": "active", "kind": "instance", "date": "2026-01-01",
		"fhirVersion": "4.0.1", "format": []string{"application/fhir+json"},
		"implementation": map[string]any{"description": "smartauthtest", "url": s.URL},
		"rest": []any{map[string]any{
			"mode": "server",
			"security": map[string]any{"service": []any{map[string]any{"coding": []any{map[string]any{
				"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR",
			}}}}},
			"resource": []any{map[string]any{"type": "Patient", "interaction": interaction("read", "search-type"),
				"searchParam": []any{map[string]any{"name": "_id", "type": "token"}}}},
		}},
	})
}

// authorizeFHIR checks the bearer token (RFC 6750 section 3).
func (s *Server) authorizeFHIR(x *exchange) (*accessToken, *answer) {
	challenge := func(status int, text, code, diagnostics string) *answer {
		ans := outcome(status, code, diagnostics)
		ans.header.Set("WWW-Authenticate", text)
		return ans
	}
	if x.query.Has("access_token") {
		return nil, challenge(http.StatusBadRequest, `Bearer error="invalid_request"`, "security", "the access token is in the query")
	}
	if len(x.Header.Values("Authorization")) == 0 {
		return nil, challenge(http.StatusUnauthorized, "Bearer", "login", "there is no access token")
	}
	value, ok := bearer(x.Header)
	if !ok {
		return nil, challenge(http.StatusUnauthorized, "Bearer", "login", "the Authorization header holds no bearer token")
	}
	token := s.grants.active(value, s.now())
	if token == nil {
		return nil, challenge(http.StatusUnauthorized, `Bearer error="invalid_token"`, "login", "the access token is unknown, expired or revoked")
	}
	return token, nil
}

// access tells which patients the token lets through for an interaction ("r" or
// "s"): every one, only the one in context, or none.
func (t *accessToken) patientAccess(interaction string) (every bool, only string) {
	for _, text := range t.scopes {
		sc, ok := parseScope(text)
		if !ok || sc.query != "" || sc.resource != "*" && sc.resource != "Patient" || !strings.Contains(sc.access, interaction) {
			continue
		}
		if sc.level != "patient" {
			return true, ""
		}
		only = t.launch.Patient
	}
	return false, only
}

func insufficientScope(interaction string) *answer {
	ans := outcome(http.StatusForbidden, "forbidden", "the scope does not allow this")
	ans.header.Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", scope="patient/Patient.%s"`, interaction))
	return ans
}

func (s *Server) readPatient(token *accessToken, id string) *answer {
	every, only := token.patientAccess("r")
	if !every && only != id {
		return insufficientScope("r")
	}
	s.patients.mu.RLock()
	defer s.patients.mu.RUnlock()
	patient := s.patients.byID[id]
	if patient == nil {
		return outcome(http.StatusNotFound, "not-found", "there is no such Patient")
	}
	return fhirAnswer(http.StatusOK, patient)
}

func (s *Server) searchPatients(token *accessToken, x *exchange) *answer {
	every, only := token.patientAccess("s")
	if !every && only == "" {
		return insufficientScope("s")
	}
	if x.queryErr != nil {
		return outcome(http.StatusBadRequest, "invalid", x.queryErr.Error())
	}
	wanted := func(id string) bool { return every || id == only }
	for name, values := range x.query {
		if name != "_id" {
			return outcome(http.StatusBadRequest, "not-supported", "the only search parameter is _id")
		}
		ids := strings.Split(values[0], ",")
		before := wanted
		wanted = func(id string) bool { return before(id) && slices.Contains(ids, id) }
	}
	s.patients.mu.RLock()
	defer s.patients.mu.RUnlock()
	entries := []any{}
	for _, id := range slices.Sorted(maps.Keys(s.patients.byID)) {
		if wanted(id) {
			entries = append(entries, map[string]any{
				"fullUrl": s.URL + "/Patient/" + id, "resource": s.patients.byID[id], "search": map[string]any{"mode": "match"},
			})
		}
	}
	bundle := map[string]any{"resourceType": "Bundle", "type": "searchset", "total": len(entries)}
	if len(entries) > 0 { // FHIR has no empty arrays
		bundle["entry"] = entries
	}
	return fhirAnswer(http.StatusOK, bundle)
}
