//go:build cgo && linux

package pkcs11

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"
)

const insideContainer = "HSM_INSIDE_CONTAINER"

// The tests of this package, compiled, run in a container that holds nothing but
// them, SoftHSM, OpenSC and the libraries they need: what a service in a container
// has. The image is made of this machine's files, so none is pulled.
func TestInContainer(t *testing.T) {
	if os.Getenv(insideContainer) != "" {
		return // here we are
	}
	need(t)
	t.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true") // it would be one more image; the container ends by itself
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	log.SetDefault(log.NewNoopLogger())
	provider, err := testcontainers.NewDockerProvider()
	if err == nil {
		err = provider.Health(ctx)
	}
	if err != nil {
		const text = "no Docker answers (apt-get install docker.io, and start dockerd): "
		if os.Getenv("CI") == "true" {
			t.Fatal(text, err)
		}
		t.Skip(text, err)
	}
	defer provider.Close()

	image := bytes.NewReader(image(t))
	c, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{
			FromDockerfile: testcontainers.FromDockerfile{ContextArchive: image},
			WaitingFor:     wait.ForExit().WithExitTimeout(7 * time.Minute),
		},
		Started: true,
	})
	testcontainers.CleanupContainer(t, c)
	if err != nil {
		t.Fatal(err)
	}
	logs, err := c.Logs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	out, err := io.ReadAll(logs)
	if err != nil {
		t.Fatal(err)
	}
	state, err := c.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if state.ExitCode != 0 || !strings.Contains(string(out), "--- PASS: TestConformance") || strings.Contains(string(out), "--- SKIP") {
		t.Errorf("exit status %d in the container:\n%s", state.ExitCode, out)
	}
	t.Logf("%d tests passed in the container", strings.Count(string(out), "--- PASS"))
}

// image is the build context of the image, as a tar archive.
func image(t *testing.T) []byte {
	t.Helper()
	tests := filepath.Join(t.TempDir(), "pkcs11.test")
	run(t, "go", "test", "-c", "-o", tests, ".")
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	add := func(name string, mode int64, content []byte) {
		t.Helper()
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), ModTime: time.Unix(0, 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	addFile := func(name, path string) {
		t.Helper()
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		add("root/"+strings.TrimPrefix(name, "/"), 0o755, content)
	}
	add("Dockerfile", 0o644, []byte(`FROM scratch
COPY root/ /
ENV PATH=/usr/bin CI=true HSM_SHIM=/usr/lib/shim.so `+insideContainer+`=1
CMD ["/usr/bin/pkcs11.test", "-test.v", "-test.timeout=6m"]
`))
	add("root/tmp/.keep", 0o644, nil)
	addFile("/usr/bin/pkcs11.test", tests)
	addFile("/usr/lib/shim.so", shimHSM)
	programs := []string{softHSM, spy(t)}
	for _, tool := range []string{"softhsm2-util", "pkcs11-tool"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, path)
	}
	files := slices.Clone(programs)
	for _, program := range append(programs, tests, shimHSM) {
		files = append(files, libraries(t, program)...)
	}
	slices.Sort(files)
	for _, path := range slices.Compact(files) {
		addFile(path, path)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

var absolutePath = regexp.MustCompile(`/\S+`)

// libraries are what the loader loads with a program, itself included.
func libraries(t *testing.T, program string) []string {
	t.Helper()
	return absolutePath.FindAllString(strings.ReplaceAll(run(t, "ldd", program), program+":", ""), -1)
}
