//go:build unix

package securefile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/smartcred/smartcred"
)

func TestReadModes(t *testing.T) {
	config, private := Options{}, Options{Private: true}
	lifted := Options{Private: true, InsecurePermissions: true}
	tests := []struct {
		mode       fs.FileMode
		opts       Options
		kubernetes bool
		chmod      string // what the error must advise; empty: no error
		events     int
	}{
		{mode: 0o600, opts: private},
		{mode: 0o400, opts: private},
		{mode: 0o640, opts: private},
		{mode: 0o440, opts: private},
		{mode: 0o644, opts: private, chmod: "chmod g-w,o="},
		{mode: 0o604, opts: private, chmod: "chmod g-w,o="},
		{mode: 0o660, opts: private, chmod: "chmod g-w,o="},
		{mode: 0o602, opts: private, chmod: "chmod g-w,o="},
		{mode: 0o666, opts: private, chmod: "chmod g-w,o="},
		{mode: 0o644, opts: lifted, events: 1},
		{mode: 0o600, opts: lifted},
		{mode: 0o660, opts: lifted, chmod: "chmod g-w,o="},
		{mode: 0o646, opts: lifted, chmod: "chmod g-w,o="},
		{mode: 0o644, opts: private, kubernetes: true, events: 1},
		{mode: 0o664, opts: private, kubernetes: true, chmod: "chmod g-w,o="},
		{mode: 0o644, opts: config},
		{mode: 0o604, opts: config},
		{mode: 0o664, opts: config, chmod: "chmod go-w"},
		{mode: 0o646, opts: config, chmod: "chmod go-w"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%04o private=%t lifted=%t kubernetes=%t", tt.mode, tt.opts.Private, tt.opts.InsecurePermissions, tt.kubernetes), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "secret")
			if tt.kubernetes {
				path = kubernetesVolume(t, dir, canary, tt.mode)
			} else {
				writeFile(t, path, canary, tt.mode)
			}
			var events []smartcred.Event
			tt.opts.Observer = smartcred.ObserverFunc(func(_ context.Context, e smartcred.Event) { events = append(events, e) })

			data, err := Read(t.Context(), path, tt.opts)
			if tt.chmod == "" {
				if err != nil || string(data) != canary {
					t.Fatalf("Read = %q, %v", data, err)
				}
			} else {
				if !errors.Is(err, smartcred.ErrInvalidConfig) {
					t.Fatalf("error %v, want ErrInvalidConfig", err)
				}
				for _, want := range []string{tt.chmod + " " + path, fmt.Sprintf("%04o", tt.mode)} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("error %q does not say %q", err, want)
					}
				}
				if strings.Contains(err.Error(), canary) {
					t.Errorf("error %q holds the content", err)
				}
			}
			if len(events) != tt.events {
				t.Fatalf("%d events, want %d", len(events), tt.events)
			}
			for _, e := range events {
				if e.Kind != smartcred.EventInsecurePermissions || e.Backend != "file:"+path {
					t.Errorf("event %+v", e)
				}
			}
		})
	}
}

// The advice must be enough: a file whose chmod was run is read.
func TestAdvisedChmodIsEnough(t *testing.T) {
	for mode := fs.FileMode(0o400); mode <= 0o777; mode++ {
		for _, private := range []bool{false, true} {
			cleaned := mode &^ 0o022
			if private {
				cleaned = mode &^ 0o027
			}
			if err := checkMode(t.Context(), "/absent/f", cleaned, Options{Private: private, Observer: failOnEvent(t)}); err != nil {
				t.Errorf("private=%t: mode %04o after chmod: %v", private, cleaned, err)
			}
		}
	}
}

// A plain folder named ..data is not the kubelet's link.
func TestDataFolderIsNoKubernetesVolume(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "..data"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "secret")
	writeFile(t, path, canary, 0o644)
	if _, err := Read(t.Context(), path, Options{Private: true}); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Fatalf("error %v, want ErrInvalidConfig", err)
	}
}

func TestReadRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		path string
		want error
	}{
		"fifo":           {fifo, smartcred.ErrInvalidConfig},
		"socket":         {socket, smartcred.ErrInvalidConfig},
		"device":         {os.DevNull, smartcred.ErrInvalidConfig},
		"loop of links":  {loop, smartcred.ErrInvalidConfig},
		"name too long":  {filepath.Join(dir, strings.Repeat("x", 5000)), smartcred.ErrInvalidConfig},
		"NUL":            {dir + "/a\x00b", smartcred.ErrInvalidConfig},
		"below a file":   {fifo + "/f", smartcred.ErrNotFound},
		"missing folder": {filepath.Join(dir, "absent", "f"), smartcred.ErrNotFound},
		"empty path":     {"", smartcred.ErrNotFound},
		"endless /dev":   {"/dev/zero", smartcred.ErrInvalidConfig},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := Read(t.Context(), tt.path, Options{}); !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestOnce(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	writeFile(t, a, canary, 0o644)
	writeFile(t, b, canary, 0o644)
	var got []string
	observer := Once(smartcred.ObserverFunc(func(_ context.Context, e smartcred.Event) { got = append(got, e.Backend) }))
	for _, path := range []string{a, a, b, a, b} {
		if _, err := Read(t.Context(), path, Options{Private: true, InsecurePermissions: true, Observer: observer}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"file:" + a, "file:" + b}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("events of %v, want %v", got, want)
	}
	observer.Observe(t.Context(), smartcred.Event{Kind: smartcred.EventStaleInUse})
	observer.Observe(t.Context(), smartcred.Event{Kind: smartcred.EventStaleInUse})
	if len(got) != 4 {
		t.Errorf("other events were dropped: %d of 4 arrived", len(got))
	}
}

// kubernetesVolume lays files out as the kubelet does and returns the path of
// the one that programs read.
func kubernetesVolume(t *testing.T, dir, content string, mode fs.FileMode) string {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, "..2026_01_01"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "..2026_01_01", "secret"), content, mode)
	if err := os.Symlink("..2026_01_01", filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "secret")
	if err := os.Symlink(filepath.Join("..data", "secret"), path); err != nil {
		t.Fatal(err)
	}
	return path
}
