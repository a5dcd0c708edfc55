package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/smartcred/smartcred/internal/vault"
)

var pages = []string{"rotation.md", "incident.md", "events.md", "vault.md", "aws.md"}

// foreign are names that OAuth and backends gave.
var foreign = []string{
	"client_secret", "client_secret_basic", "client_secret_post", "private_key_jwt",
	"allow_plaintext_backup", "auto_rotate_period", "max_versions", "min_encryption_version", "secret_id_num_uses", "token_max_ttl", "token_num_uses", // Vault's
}

// A block is a fenced part of a page.
type block struct {
	page  string
	line  int // of the first line within
	lang  string
	lines []string
}

// read splits a page into its fenced blocks and the lines outside.
func read(t *testing.T, page string) (blocks []block, prose []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var open *block
	for i, line := range strings.Split(string(text), "\n") {
		lang, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &block{page: page, line: i + 2, lang: lang}
		case fence:
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.lines = append(open.lines, line)
		default:
			prose = append(prose, line)
		}
	}
	if open != nil {
		t.Errorf("%s:%d: the block is not closed", page, open.line)
	}
	return blocks, prose
}

func allBlocks(t *testing.T, langs ...string) (blocks []block) {
	t.Helper()
	for _, page := range pages {
		of, _ := read(t, page)
		for _, b := range of {
			if slices.Contains(langs, b.lang) {
				blocks = append(blocks, b)
			}
		}
	}
	if len(blocks) == 0 {
		t.Fatalf("no block of %v in any page", langs)
	}
	return blocks
}

var inline = regexp.MustCompile("`([^`]+)`")

// commands returns the smartcred command lines of all pages, in blocks and in
// the text.
func commands(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{} // to where
	for _, b := range allBlocks(t, "sh", "console") {
		for i, line := range b.lines {
			line = strings.TrimPrefix(line, "$ ")
			if strings.HasPrefix(line, "smartcred ") {
				found[line] = b.page + ":" + strconv.Itoa(b.line+i)
			}
		}
	}
	for _, page := range pages {
		_, prose := read(t, page)
		for _, m := range inline.FindAllStringSubmatch(strings.Join(prose, "\n"), -1) {
			if strings.HasPrefix(m[1], "smartcred ") {
				found[m[1]] = page
			}
		}
	}
	return found
}

func TestCommandsExist(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "smartcred")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../cmd/smartcred").CombinedOutput(); err != nil {
		t.Fatalf("build smartcred: %v\n%s", err, out)
	}
	help := map[string]string{}
	for line, where := range commands(t) {
		line, _, _ = strings.Cut(line, " > ")
		line, _, _ = strings.Cut(line, " # ")
		words := strings.Fields(line)[1:]
		var path []string
		for len(words) > 0 && !strings.HasPrefix(words[0], "-") {
			path, words = append(path, words[0]), words[1:]
		}
		name := strings.Join(path, " ")
		if name == "rotation revoke previous" || name == "rotation revoke current" {
			path = path[:2] // a word that revoke takes
			name = strings.Join(path, " ")
		}
		text, ok := help[name]
		if !ok {
			out, err := exec.CommandContext(t.Context(), binary, append(path, "--help")...).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %s: %v\n%s", where, line, err, out)
				continue
			}
			text = string(out)
			help[name] = text
			if !strings.Contains(text, "\n  smartcred "+name+" ") {
				t.Errorf("%s: %s: no such command:\n%s", where, line, text)
			}
		}
		for _, word := range words {
			flag, _, _ := strings.Cut(word, "=")
			if strings.HasPrefix(flag, "-") && !regexp.MustCompile(`(?m)^ +(-\w, )?`+flag+`( |$)`).MatchString(text) {
				t.Errorf("%s: %s: no flag %s", where, line, flag)
			}
		}
	}
}

// eventKinds reads the kinds out of event.go.
func eventKinds(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "EventKind" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, value)
		}
		return true
	})
	if len(kinds) == 0 {
		t.Fatal("event.go has no kinds")
	}
	return kinds
}

// eventFields reads the names of fields out of event.go.
func eventFields(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../event.go")
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, m := range regexp.MustCompile(`(?:add\(|slog\.Duration\()"([a-z_]+)"`).FindAllStringSubmatch(string(text), -1) {
		fields = append(fields, m[1])
	}
	return fields
}

// configurationKeys reads README's table of keys.
func configurationKeys(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 3 {
			for _, m := range inline.FindAllStringSubmatch(cells[1], -1) {
				keys = append(keys, m[1])
			}
		}
	}
	return keys
}

// TestEventsMatch holds the tables of events.md and every name_like_this.
func TestEventsMatch(t *testing.T) {
	kinds, fields := eventKinds(t), eventFields(t)
	named := map[string]bool{}
	_, prose := read(t, "events.md")
	for _, line := range prose {
		if cells := strings.Split(line, "|"); len(cells) > 3 {
			for _, m := range inline.FindAllStringSubmatch(cells[1], -1) {
				named[m[1]] = true
			}
		}
	}
	for _, name := range slices.Concat(kinds, fields) {
		if !named[name] {
			t.Errorf("events.md has no row for %s", name)
		}
	}

	known := slices.Concat(kinds, fields, configurationKeys(t), foreign, vault.QueryOptions("version", "kv"))
	snake := regexp.MustCompile(`^[a-z]+(_[a-z]+)+$`)
	for _, page := range pages {
		_, prose := read(t, page)
		for _, m := range inline.FindAllStringSubmatch(strings.Join(prose, "\n"), -1) {
			name, _, _ := strings.Cut(m[1], ":")
			if snake.MatchString(name) && !slices.Contains(known, name) {
				t.Errorf("%s names %s, which is no event, field or configuration key", page, name)
			}
		}
	}
}

// changing is what differs from run to run.
var changing = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`fp-[0-9a-f]{12}`), "FINGERPRINT"},
	{regexp.MustCompile(`kid[= ][A-Za-z0-9_-]{43}`), "KID"},
	{regexp.MustCompile(`version[= ][A-Za-z0-9_-]{16}([ ,)]|$)`), "VERSION$1"},
	{regexp.MustCompile(`jti=[0-9a-f]{32}`), "JTI"},
	{regexp.MustCompile(`for \d[0-9hms]*s,`), "for A WHILE,"},
}

func withoutChanging(line string) string {
	line = strings.TrimSpace(line)
	for _, c := range changing {
		line = c.what.ReplaceAllString(line, c.as)
	}
	return line
}

// TestStories tells all stories, and holds every log line that the pages show
// against theirs.
func TestStories(t *testing.T) {
	said := map[string]bool{}
	for kind, stories := range map[string]map[string]func(*story){"secret": secretStories, "key": keyStories} {
		for name, tell := range stories {
			t.Run(kind+": "+name, func(t *testing.T) {
				log := run(t, tell)
				t.Log("\n" + log)
				for line := range strings.Lines(log) {
					said[withoutChanging(line)] = true
				}
			})
		}
	}
	for _, b := range allBlocks(t, "text") {
		for i, line := range b.lines {
			if !said[withoutChanging(line)] {
				t.Errorf("%s:%d: no story says\n%s", b.page, b.line+i, line)
			}
		}
	}
}

// TestCodeIsCompiled holds the Go that the pages show against the examples.
func TestCodeIsCompiled(t *testing.T) {
	raw, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	compiled := strings.ReplaceAll("\n"+string(raw), "\n\t", "\n")
	for _, b := range allBlocks(t, "go") {
		text := "\n" + strings.Join(b.lines, "\n") + "\n"
		if !strings.Contains(compiled, strings.ReplaceAll(text, "\n\t", "\n")) {
			t.Errorf("%s:%d: the code is not in example_test.go", b.page, b.line)
		}
	}
}

// diagram is what a line of a sequence diagram may be. Mermaid ends a line at a
// semicolon and takes # for an escape.
var diagram = regexp.MustCompile(`^    *(participant \w+ as [^;#]+|(Note over \w+(,\w+)?|\w+--?>>\w+): [^;#]+|(alt|else|loop|opt) [^;#]+|end)$`)

func TestDiagramsAreWellFormed(t *testing.T) {
	for _, b := range allBlocks(t, "mermaid") {
		if b.lines[0] != "sequenceDiagram" {
			t.Errorf("%s:%d: no sequence diagram", b.page, b.line)
		}
		depth, actors := 0, map[string]bool{}
		for i, line := range b.lines[1:] {
			where := b.page + ":" + strconv.Itoa(b.line+1+i)
			if !diagram.MatchString(line) {
				t.Errorf("%s: %q is no line of a sequence diagram", where, line)
			}
			switch first := strings.Fields(line)[0]; first {
			case "participant":
				actors[strings.Fields(line)[1]] = true
			case "alt", "loop", "opt":
				depth++
			case "end":
				depth--
			case "else", "Note":
			default:
				from, rest, _ := strings.Cut(strings.TrimSuffix(first, ":"), ">>")
				if !actors[strings.Trim(from, "-")] || !actors[rest] {
					t.Errorf("%s: an actor is not declared", where)
				}
			}
		}
		if depth != 0 {
			t.Errorf("%s:%d: %d blocks are left open", b.page, b.line, depth)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)]+)\)`)

func TestLinksLead(t *testing.T) {
	heading := regexp.MustCompile(`[^a-z0-9 -]`)
	anchors := map[string]bool{}
	// What those pages show beside links is held by tests of their own.
	all := append(slices.Clone(pages), "aws-rotation.md", "plugins.md", "plugin-protocol.md")
	for _, page := range all {
		_, prose := read(t, page)
		for _, line := range prose {
			if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
				anchors[page+"#"+strings.ReplaceAll(heading.ReplaceAllString(strings.ToLower(title), ""), " ", "-")] = true
			}
		}
	}
	for _, page := range all {
		_, prose := read(t, page)
		for _, m := range link.FindAllStringSubmatch(strings.Join(prose, "\n"), -1) {
			to, anchor, _ := strings.Cut(m[1], "#")
			if to == "" {
				to = page
			}
			if anchor != "" && !anchors[to+"#"+anchor] {
				t.Errorf("%s: %s leads nowhere", page, m[1])
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %s leads nowhere", page, m[1])
			}
		}
	}
}
