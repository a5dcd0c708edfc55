package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/securefile"
)

// FileMemory keeps state in one file, for a command line that is run from cron
// and for services on one machine. It is safe for several processes at once, on
// systems that lock files (Unix); elsewhere for one.
type FileMemory struct {
	path string
	turn chan struct{} // one writer of this process at a time
}

var _ Memory = (*FileMemory)(nil)

// File returns a Memory in the file at path, which is made with mode 0600 when
// first needed; its folder must exist. Beside it stands path.lock. A file that
// others can read or write is refused: it holds the key of the identities' HMACs.
func File(path string) *FileMemory {
	return &FileMemory{path: path, turn: make(chan struct{}, 1)}
}

// fileContent is the file's form.
type fileContent struct {
	Version int                        `json:"version"`
	Entries map[string]json.RawMessage `json:"entries"`
}

const fileVersion = 1

// maxFile is far more than the state of thousands of servers.
const maxFile = 64 << 20

// lockPause is how long a process that finds the file locked waits before it
// looks again.
const lockPause = 10 * time.Millisecond

// Update implements [Memory]. The file is replaced as a whole, so that a crash
// leaves the old or the new one.
func (m *FileMemory) Update(ctx context.Context, name string, change func(old []byte) []byte) error {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return m.failed("wait for", ctx.Err())
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return m.failed("lock", err)
	}
	defer unlock()

	content, err := m.read(ctx)
	if err != nil {
		return err
	}
	old, had := content.Entries[name]
	changed := change(old)
	if changed == nil {
		delete(content.Entries, name)
		if !had {
			return nil
		}
	} else {
		if had && string(changed) == string(old) {
			return nil
		}
		content.Entries[name] = changed
	}
	return m.write(content)
}

func (m *FileMemory) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(m.path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		locked, err := tryLock(f)
		if err != nil {
			f.Close()
			return nil, err
		}
		if locked {
			return func() { f.Close() }, nil
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
	}
}

func (m *FileMemory) read(ctx context.Context) (fileContent, error) {
	empty := fileContent{Version: fileVersion, Entries: map[string]json.RawMessage{}}
	raw, err := securefile.Read(ctx, m.path, securefile.Options{Private: true, MaxSize: maxFile})
	switch {
	case errors.Is(err, smartcred.ErrNotFound):
		return empty, nil
	case err != nil:
		return fileContent{}, m.failed("read", err)
	}
	var content fileContent
	if err := json.Unmarshal(raw, &content); err != nil || content.Version != fileVersion {
		return fileContent{}, &smartcred.ConfigError{
			Option: "state_file", Problem: "is no state file of this version of smartcred: move it away, and what was learned is learned anew",
		}
	}
	if content.Entries == nil {
		content.Entries = empty.Entries
	}
	return content, nil
}

func (m *FileMemory) write(content fileContent) (err error) {
	raw, err := json.Marshal(content) // compact, so that what is kept compares equal
	if err != nil {
		return m.failed("write", err)
	}
	f, err := os.CreateTemp(filepath.Dir(m.path), ".smartcred-state-*") // mode 0600
	if err != nil {
		return m.failed("write", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(append(raw, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), m.path)
	}
	if err != nil {
		return m.failed("write", err)
	}
	return nil
}

// failed names the file once: the errors of package os do so too.
func (m *FileMemory) failed(verb string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("rotation: %s state file %s: %w", verb, m.path, err)
}
