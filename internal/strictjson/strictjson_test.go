package strictjson_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/smartcred/smartcred/internal/strictjson"
)

func TestObject(t *testing.T) {
	text := " \r\n\t{ \"b\" : [1, {\"x\":\"]}\"}] ,\n\"a\":\"q\\\"}\",\"B\":-1.5e3,\"e\\u0073c\":null,\"\":{},\"a\":true, \"b\":2, \"a\":false}\n"
	o, err := strictjson.Object([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b", "a", "B", "esc", ""}, o.Names); diff != "" {
		t.Errorf("Names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, o.Duplicates); diff != "" {
		t.Errorf("Duplicates (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"b": "2", "a": "false", "B": "-1.5e3", "esc": "null", "": "{}"} {
		if got, ok := o.Raw(name); !ok || string(got) != want {
			t.Errorf("Raw(%q) = %s, %t, want %s", name, got, ok, want)
		}
	}
	if _, ok := o.Raw("A"); ok {
		t.Error("names are not compared exactly")
	}
	if got := string(o.Text()); got != strings.TrimSpace(text) {
		t.Errorf("Text = %s", got)
	}
	if o.BOM {
		t.Error("a byte order mark out of nothing")
	}
}

func TestObjectRefuses(t *testing.T) {
	nested := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	for name, tt := range map[string]struct {
		text string
		want error
	}{
		"empty":                  {"", strictjson.ErrSyntax},
		"white space":            {" \n", strictjson.ErrSyntax},
		"only a byte order mark": {"\xef\xbb\xbf", strictjson.ErrSyntax},
		"two byte order marks":   {"\xef\xbb\xbf\xef\xbb\xbf{}", strictjson.ErrSyntax},
		"HTML":                   {"<html>", strictjson.ErrSyntax},
		"cut off":                {`{"a":1`, strictjson.ErrSyntax},
		"cut off in a string":    {`{"a":"\`, strictjson.ErrSyntax},
		"trailing":               {`{} x`, strictjson.ErrSyntax},
		"two objects":            {`{}{}`, strictjson.ErrSyntax},
		"trailing NUL":           {"{}\x00", strictjson.ErrSyntax},
		"single quotes":          {`{'a':1}`, strictjson.ErrSyntax},
		"trailing comma":         {`{"a":1,}`, strictjson.ErrSyntax},
		"control character":      {"{\"a\":\"\n\"}", strictjson.ErrSyntax},
		"invalid UTF-8":          {"{\"a\":\"\xff\"}", strictjson.ErrEncoding},
		"UTF-16":                 {"\xfe\xff\x00{\x00}", strictjson.ErrEncoding},
		"array":                  {`[{}]`, strictjson.ErrNotObject},
		"null":                   {"null", strictjson.ErrNotObject},
		"number":                 {" 1 ", strictjson.ErrNotObject},
		"deepest":                {nested(strictjson.MaxDepth - 1), nil},
		"too deep":               {nested(strictjson.MaxDepth), strictjson.ErrDepth},
		"brackets in a string":   {`{"a":"` + strings.Repeat(`[{\"`, 200) + `"}`, nil},
		"too deep and no JSON":   {strings.Repeat("[", 1<<20), strictjson.ErrDepth},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := strictjson.Object([]byte(tt.text)); !errors.Is(err, tt.want) {
				t.Errorf("Object = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestByteOrderMark(t *testing.T) {
	o, err := strictjson.Object([]byte("\xef\xbb\xbf{\"a\":1}"))
	if err != nil || !o.BOM || string(o.Text()) != `{"a":1}` {
		t.Errorf("Object = %+v, %v", o, err)
	}
}

func TestAccessors(t *testing.T) {
	o, err := strictjson.Object([]byte(`{"n":null,"s":"a\u0062","es":"","t":true,"f":false,"i":1,"o":{},
		"l":["a","\u0062"],"el":[],"ml":["a",1],"nl":["a",null]}`))
	if err != nil {
		t.Fatal(err)
	}
	str := func(name string) string { v, s := o.String(name); return fmt.Sprintf("%q %d", v, s) }
	boolean := func(name string) string { v, s := o.Bool(name); return fmt.Sprintf("%t %d", v, s) }
	list := func(name string) string { v, s := o.Strings(name); return fmt.Sprintf("%#v %d", v, s) }
	array := func(name string) string { v, s := o.Array(name); return fmt.Sprintf("%s %d", v, s) }
	const absent, null, wrong, present = strictjson.Absent, strictjson.Null, strictjson.WrongType, strictjson.Present
	for _, tt := range []struct{ got, want string }{
		{str("x"), fmt.Sprintf(`"" %d`, absent)}, {str("n"), fmt.Sprintf(`"" %d`, null)}, {str("i"), fmt.Sprintf(`"" %d`, wrong)},
		{str("s"), fmt.Sprintf(`"ab" %d`, present)}, {str("es"), fmt.Sprintf(`"" %d`, present)},
		{boolean("x"), fmt.Sprintf("false %d", absent)}, {boolean("n"), fmt.Sprintf("false %d", null)}, {boolean("s"), fmt.Sprintf("false %d", wrong)},
		{boolean("t"), fmt.Sprintf("true %d", present)}, {boolean("f"), fmt.Sprintf("false %d", present)},
		{list("x"), fmt.Sprintf("[]string(nil) %d", absent)}, {list("n"), fmt.Sprintf("[]string(nil) %d", null)},
		{list("s"), fmt.Sprintf("[]string(nil) %d", wrong)}, {list("ml"), fmt.Sprintf("[]string(nil) %d", wrong)},
		{list("nl"), fmt.Sprintf("[]string(nil) %d", wrong)}, {list("el"), fmt.Sprintf("[]string{} %d", present)},
		{list("l"), fmt.Sprintf(`[]string{"a", "b"} %d`, present)},
		{array("x"), fmt.Sprintf("[] %d", absent)}, {array("n"), fmt.Sprintf("[] %d", null)}, {array("o"), fmt.Sprintf("[] %d", wrong)},
		{array("ml"), fmt.Sprintf(`["a" 1] %d`, present)},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}

func TestKind(t *testing.T) {
	for text, want := range map[string]string{
		"": "absent", `""`: "string", "-1": "number", "0": "number", "true": "boolean", "false": "boolean", "null": "null", "[]": "array", "{}": "object",
	} {
		if got := strictjson.Kind(json.RawMessage(text)); got != want {
			t.Errorf("Kind(%s) = %s, want %s", text, got, want)
		}
	}
}

func BenchmarkObject(b *testing.B) {
	var many strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&many, `"%d":1,"%d":2,`, i, i)
	}
	for name, text := range map[string]string{
		"token":      `{"access_token":"test","token_type":"Bearer","expires_in":300,"scope":"system/*.rs"}`,
		"duplicates": "{" + many.String() + `"":1}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := strictjson.Object([]byte(text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzObject(f *testing.F) {
	for _, s := range []string{
		"", "{}", `{"a":1,"a":2}`, `{"a":{"b":[1,"]",{"c":null}]},"d":"\\\""}`, "\xef\xbb\xbf{}", `{"\ud800":1,"\u0000":-0.1e+9}`, "[1]", "{}x",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := strictjson.Object(data)
		var want map[string]json.RawMessage
		std := json.Unmarshal([]byte(strings.TrimPrefix(string(data), "\xef\xbb\xbf")), &want)
		if err != nil {
			if std == nil && want != nil && !errors.Is(err, strictjson.ErrEncoding) && !errors.Is(err, strictjson.ErrDepth) {
				t.Fatalf("refused a JSON object: %v", err)
			}
			return
		}
		if std != nil {
			t.Fatalf("took what is no JSON object: %v", std)
		}
		got := map[string]json.RawMessage{}
		for _, name := range o.Names {
			got[name], _ = o.Raw(name)
			if !json.Valid(got[name]) {
				t.Fatalf("member %q is no JSON text: %s", name, got[name])
			}
			o.String(name)
			o.Bool(name)
			o.Strings(name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("members (-encoding/json +strictjson):\n%s", diff)
		}
	})
}
