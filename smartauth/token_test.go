package smartauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	canaryAccess  = "canary-access-4f1d8a77"
	canaryRefresh = "canary-refresh-90bb1c2e"
	canaryID      = "canary-id-5e6f7a8b"
)

func canaryToken(t *testing.T) *Token {
	t.Helper()
	token, err := ParseToken([]byte(`{"access_token":"`+canaryAccess+`","token_type":"bearer","expires_in":300,"scope":"openid x",
		"refresh_token":"`+canaryRefresh+`","id_token":"`+canaryID+`","patient":"canary-patient","vendor":{"n":1}}`), nil, received)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokenPrintsNothing(t *testing.T) {
	token := canaryToken(t)
	type holder struct {
		pointer *Token
		value   Token
		any     any
		list    []Token
		byName  map[string]*Token
	}
	h := holder{token, *token, *token, []Token{*token}, map[string]*Token{"t": token}}
	var out []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%t"} {
		out = append(out, fmt.Sprintf(verb, token), fmt.Sprintf(verb, *token), fmt.Sprintf(verb, h), fmt.Sprintf(verb, &h))
	}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("m", "token", token, "value", *token, "holder", h)
	}
	exported := struct {
		T *Token
		V Token
		M map[string]Token
	}{token, *token, map[string]Token{"m": *token}}
	encoded, err := json.Marshal(exported)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"T":"[redacted]","V":"[redacted]","M":{"m":"[redacted]"}}`; string(encoded) != want {
		t.Errorf("JSON = %s", encoded)
	}
	for _, text := range append(out, log.String(), string(encoded)) {
		for _, canary := range []string{canaryAccess, canaryRefresh, canaryID} {
			if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) || strings.Contains(text, fmt.Sprintf("%X", canary)) {
				t.Errorf("printed %s", text)
			}
		}
	}
	if got := fmt.Sprint(token); got != "Bearer [redacted]" {
		t.Errorf("Sprint = %q", got)
	}
}

func TestTokenValues(t *testing.T) {
	token := canaryToken(t)
	r, err := http.NewRequest(http.MethodGet, "https://ehr.example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	token.SetAuthHeader(r)
	if got := r.Header.Get("Authorization"); got != "Bearer "+canaryAccess {
		t.Errorf("Authorization = %q", got)
	}
	if d, stated := token.ExpiresIn(); d != 5*time.Minute || !stated {
		t.Errorf("ExpiresIn = %s, %t", d, stated)
	}
	o := token.OAuth2()
	if o.AccessToken != canaryAccess || o.RefreshToken != canaryRefresh || o.TokenType != "Bearer" ||
		!o.Expiry.Equal(token.Expiry) || o.ExpiresIn != 300 || o.Extra("id_token") != canaryID || o.Extra("patient") != "canary-patient" {
		t.Error("OAuth2 differs from the token")
	}
	if got := token.MissingScopes([]string{"openid", "y"}); len(got) != 1 || got[0] != "y" {
		t.Errorf("MissingScopes = %q", got)
	}
}

func TestNoToken(t *testing.T) {
	var none *Token
	for _, token := range []*Token{none, {}} {
		if token.AccessToken()+token.RefreshToken()+token.IDToken() != "" || token.Answer() != nil {
			t.Error("a token out of nothing")
		}
		if _, ok := token.Member("x"); ok {
			t.Error("a member out of nothing")
		}
		r := &http.Request{Header: http.Header{"Authorization": {"Basic x"}}}
		if token.SetAuthHeader(r); len(r.Header) != 0 {
			t.Errorf("header = %v", r.Header)
		}
		if token != nil && fmt.Sprint(token) != "Bearer [redacted]" {
			t.Errorf("printed %v", token)
		}
	}
}

func TestSetAuthHeaderAllocatesOnce(t *testing.T) {
	token := canaryToken(t)
	r := &http.Request{Header: http.Header{}}
	// One: the header's slice of values.
	if n := testing.AllocsPerRun(100, func() { token.SetAuthHeader(r) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
