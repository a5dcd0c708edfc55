package docs_test

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/program"
	"github.com/smartcred/smartcred/secretsource"
)

// blocksOf returns a page's blocks of a language.
func blocksOf(t *testing.T, page, lang string) (texts []string) {
	t.Helper()
	blocks, _ := read(t, page)
	for _, b := range blocks {
		if b.lang == lang {
			texts = append(texts, strings.Join(b.lines, "\n")+"\n")
		}
	}
	if len(texts) == 0 {
		t.Fatalf("%s has no %s", page, lang)
	}
	return texts
}

// TestInterfaceIsFollowed builds and tests the files that plugins.md has the
// reader write, as if they lay in a folder of this module.
func TestInterfaceIsFollowed(t *testing.T) {
	const module, followed = "example.com/app", "github.com/smartcred/smartcred/docs/followed"
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for i, text := range blocksOf(t, "plugins.md", "go") {
		first, _, _ := strings.Cut(text, "\n")
		name, isFile := strings.CutPrefix(first, "// ")
		if !isFile || !strings.HasSuffix(name, ".go") {
			continue // of another module
		}
		file := filepath.Join(t.TempDir(), filepath.Base(name))
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, module, followed)), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(here, "followed", name)] = file
		t.Logf("block %d is %s", i+1, name)
	}
	if len(replace) != 3 {
		t.Fatalf("%d files in plugins.md, want 3", len(replace))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := filepath.Join(t.TempDir(), "sidecar.test")
	for _, command := range [][]string{
		{"go", "test", "-overlay", path, "-c", "-vet=off", "-o", tests, followed + "/sidecar"},
		{tests}, {"go", "run", "-overlay", path, followed},
	} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
		}
	}
}

// TestShortestPluginWorks runs the page's plugin with a pass of the test's.
func TestShortestPluginWorks(t *testing.T) {
	var script string
	for _, text := range blocksOf(t, "plugins.md", "sh") {
		if strings.HasPrefix(text, "#!") {
			script = text
		}
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"plugin": script, "pass": "#!/bin/sh\n[ \"$1 $2\" = 'show smart/app' ] && printf 's3cr3t of \"pass\"\\nlogin: app\\n'\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	opts := &secretsource.OpenOptions{Observer: smartcred.Discard, Plugins: map[string]secretsource.Plugin{
		"pass": {Path: filepath.Join(dir, "plugin"), Env: []string{"PATH"}},
	}}
	found, err := program.Inspect(t.Context(), "plugin://pass/smart/app", opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found.Findings {
		if f.Err != nil {
			t.Errorf("it %s: %v", f.Promise, f.Err)
		}
	}
	src, err := secretsource.Open(t.Context(), "plugin://pass/smart/app", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer src.(io.Closer).Close()
	secret, err := src.Lookup(t.Context(), secretsource.Current)
	if err != nil || string(secret.Reveal()) != `s3cr3t of "pass"` {
		t.Errorf("Lookup = %q, %v", secret.Reveal(), err)
	}
}
