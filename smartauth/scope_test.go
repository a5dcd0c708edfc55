package smartauth

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseScope(t *testing.T) {
	for text, want := range map[string]string{
		"patient/Observation.rs":                           "patient/Observation.rs",
		"user/*.cruds":                                     "user/*.cruds",
		"system/Patient.r?_id=1&b=c?d":                     "system/Patient.r?_id=1&b=c?d",
		"patient/Observation.rs?category=http://x.y|vital": "patient/Observation.rs?category=http://x.y|vital",
		"system/*.read":                                    "system/*.rs",
		"system/*.write":                                   "system/*.cud",
		"system/*.*":                                       "system/*.cruds",
		"patient/Observation.sr":                           "",
		"patient/Observation.rr":                           "",
		"patient/Observation.":                             "",
		"patient/Observation":                              "",
		"patient/Observation.x":                            "",
		"patient/Observation.rs?":                          "",
		"patient/Observation.read?a=b":                     "",
		"patient/.rs":                                      "",
		"patient/Obs3.rs":                                  "",
		"practitioner/Observation.rs":                      "",
		"launch/patient":                                   "",
		"openid":                                           "",
		"":                                                 "",
	} {
		got, ok := ParseScope(text)
		if ok != (want != "") || ok && got.String() != want || !ok && got != (Scope{}) {
			t.Errorf("ParseScope(%q) = %q, %t, want %q", text, got, ok, want)
		}
	}
}

func TestMissingScopes(t *testing.T) {
	for name, tt := range map[string]struct {
		requested, granted, want []string
	}{
		"same":                      {[]string{"openid", "system/*.rs"}, []string{"system/*.rs", "openid"}, nil},
		"fewer":                     {[]string{"launch/patient", "openid", "openid"}, []string{"openid"}, []string{"launch/patient"}},
		"version 1 granted as 2":    {[]string{"patient/*.read", "user/A.write", "user/B.*"}, []string{"patient/*.rs", "user/A.cud", "user/B.cruds"}, nil},
		"version 2 granted as 1":    {[]string{"patient/*.rs", "user/A.cud", "user/B.cruds"}, []string{"patient/*.read", "user/A.write", "user/B.*"}, nil},
		"letters from several":      {[]string{"patient/A.rs"}, []string{"patient/A.r", "patient/*.s"}, nil},
		"wildcard covers a type":    {[]string{"patient/A.r"}, []string{"patient/*.cruds"}, nil},
		"type covers no wildcard":   {[]string{"patient/*.r"}, []string{"patient/A.r"}, []string{"patient/*.r"}},
		"another context":           {[]string{"user/A.r"}, []string{"patient/A.r"}, []string{"user/A.r"}},
		"letter missing":            {[]string{"patient/A.rs"}, []string{"patient/A.r"}, []string{"patient/A.rs"}},
		"narrowed":                  {[]string{"patient/A.rs"}, []string{"patient/A.rs?x=1"}, []string{"patient/A.rs"}},
		"wider than asked":          {[]string{"patient/A.rs?x=1"}, []string{"patient/A.rs"}, nil},
		"narrowed in another order": {[]string{"patient/A.rs?x=1&y=2"}, []string{"patient/A.rs?y=2&x=1"}, nil},
		"narrowed otherwise":        {[]string{"patient/A.rs?x=1"}, []string{"patient/A.rs?x=2"}, []string{"patient/A.rs?x=1"}},
		"several in one element":    {[]string{"b a"}, []string{"a"}, []string{"b"}},
		"nothing granted":           {[]string{"a"}, nil, []string{"a"}},
		"nothing requested":         {nil, []string{"a"}, nil},
		"vendor's own":              {[]string{"athena/service/x.*"}, []string{"athena/service/x.*"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, MissingScopes(tt.requested, tt.granted)); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}

func TestScopeKey(t *testing.T) {
	want := "a b c"
	for _, scopes := range [][]string{{"a", "b", "c"}, {"c b", "a", "b"}, {" a ", "", "c\tb"}} {
		if got := scopeKey(scopes); got != want {
			t.Errorf("scopeKey(%q) = %q", scopes, got)
		}
	}
	if got := scopeKey(nil); got != "" {
		t.Errorf("scopeKey(nil) = %q", got)
	}
}

func ExampleMissingScopes() {
	requested := []string{"openid", "patient/Observation.read", "patient/Patient.cruds"}
	granted := []string{"openid", "patient/*.rs"}
	fmt.Println(MissingScopes(requested, granted))
	// Output: [patient/Patient.cruds]
}
