package canary

import (
	"bytes"
	"context"
	"encoding"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/smartcred/smartcred"
)

// A watch keeps what was put out and looks for the values in it at the end, when
// all of them are known. It is safe for concurrent use.
type watch struct {
	mu      sync.Mutex
	values  map[string]string // value to name
	outputs map[string]string // text to where it came from
	types   map[string]bool   // of what was printed
}

func newWatch() *watch {
	return &watch{values: map[string]string{}, outputs: map[string]string{}, types: map[string]bool{}}
}

// secret makes value one that must not show.
func (w *watch) secret(name, value string) string {
	if value != "" {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.values[value] == "" {
			w.values[value] = name
		}
	}
	return value
}

// text keeps a text that was put out.
func (w *watch) text(where, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.outputs[text]; !ok {
		w.outputs[text] = where
	}
}

// check fails the test for each value in what was put out.
func (w *watch) check(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	f := newFinder()
	for value, name := range w.values {
		f.add(name, []byte(value))
	}
	told := map[string]int{}
	for text, where := range w.outputs {
		if what := f.find(text); what != "" {
			told[what+where]++
			if told[what+where] == 1 && len(told) <= 40 {
				t.Errorf("%s shows %s:\n%.600s", where, what, text)
			}
		}
	}
	if len(w.outputs) == 0 || len(w.values) == 0 {
		t.Error("nothing was looked at")
	}
}

// observer is an Observer that w keeps all events of. It is a function, so that
// w is not printed as a part of what it looks at.
func (w *watch) observer() smartcred.Observer { return smartcred.ObserverFunc(w.observe) }

func (w *watch) observe(_ context.Context, e smartcred.Event) {
	where := "event " + string(e.Kind)
	w.print(where, e)
	w.err(where, e.Err)
	w.logged(where, e)
}

var verbs = []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"}

// err keeps all that an error and its causes print.
func (w *watch) err(where string, err error) {
	if err == nil {
		return
	}
	where += ": " + typeName(err)
	w.text(where, err.Error())
	w.print(where, err)
	w.encode(where, err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		w.err(where, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			w.err(where, cause)
		}
	}
}

// value keeps all that v prints and encodes to: itself, where it points to, and
// as a part of something else.
func (w *watch) value(where string, v any) {
	name := typeName(v)
	where += ": " + name
	w.mu.Lock()
	w.types[strings.TrimPrefix(name, "*")] = true
	w.mu.Unlock()
	type holder struct {
		Public any
		hidden any
		list   []any
		keyed  map[string]any
	}
	whole := holder{v, v, []any{v}, map[string]any{"k": v}}
	each := []any{v, whole, &whole, []any{v}}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer {
		each = append(each, r.Elem().Interface())
	} else {
		pointer := reflect.New(r.Type())
		pointer.Elem().Set(r)
		each = append(each, pointer.Interface())
	}
	for _, x := range each {
		w.print(where, x)
		w.encode(where, x)
		w.logged(where, x)
	}
	w.err(where+" in an error", fmt.Errorf("x: %v", v))
}

// input is value for types by which callers hand values in. They hold them in the
// open: what prints unexported fields can reach them there, and so does gob.
func (w *watch) input(where string, v any) {
	name := typeName(v)
	where += ": " + name
	w.mu.Lock()
	w.types[name] = true
	w.mu.Unlock()
	pointer := reflect.New(reflect.TypeOf(v))
	pointer.Elem().Set(reflect.ValueOf(v))
	whole := struct{ Public any }{v} // no pointer: fmt calls no methods of what one points to under a wrong verb
	for _, x := range []any{v, pointer.Interface(), []any{v}, whole} {
		w.print(where, x)
		w.logged(where, x)
		for _, encode := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
			out, err := encode(x)
			w.text(where+" encoded", fmt.Sprint(string(out), err))
		}
	}
}

// typeName is v's type without type arguments.
func typeName(v any) string {
	name, _, _ := strings.Cut(fmt.Sprintf("%T", v), "[")
	return name
}

func (w *watch) print(where string, v any) {
	for _, verb := range verbs {
		w.text(where+" "+verb, fmt.Sprintf(verb, v))
	}
}

// encode keeps what v encodes to, and the errors where it does not.
func (w *watch) encode(where string, v any) {
	encodings := map[string]func(io.Writer) error{
		"JSON": func(out io.Writer) error { return json.NewEncoder(out).Encode(v) },
		"XML":  func(out io.Writer) error { return xml.NewEncoder(out).Encode(v) },
		"gob":  func(out io.Writer) error { return gob.NewEncoder(out).Encode(v) },
		"text": func(out io.Writer) error {
			m, ok := v.(encoding.TextMarshaler)
			if !ok {
				return nil
			}
			text, err := m.MarshalText()
			_, _ = out.Write(text)
			return err
		},
	}
	for name, encode := range encodings {
		var out bytes.Buffer
		if err := encode(&out); err != nil {
			fmt.Fprint(&out, err)
		}
		w.text(where+" as "+name, out.String())
	}
}

func (w *watch) logged(where string, v any) {
	var out bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("x", "v", v, slog.Group("g", "v", v))
	}
	w.text(where+" by slog", out.String())
}

// A sink is what slog and the log package write to.
type sink struct {
	w     *watch
	where string
}

func (s sink) Write(p []byte) (int, error) {
	s.w.text(s.where, string(p))
	return len(p), nil
}

// defaultLoggers has the watch see what goes to the default loggers.
func (w *watch) defaultLoggers(t *testing.T) {
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	out := io.MultiWriter(sink{w, "slog.Default"})
	slog.SetDefault(slog.New(slog.NewMultiHandler(
		slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}),
		slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))))
}
