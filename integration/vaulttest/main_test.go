package vaulttest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// envAbandon makes this test binary another program: see abandon. It holds the
// way and a folder.
const envAbandon = "VAULTTEST_ABANDON"

func TestMain(m *testing.M) {
	if how, dir, ok := strings.Cut(os.Getenv(envAbandon), " "); ok {
		abandon(how, dir)
	}
	Main(m)
}

// eachWay runs f the ways that this machine has at hand: the one that tests
// take, and as a process too where the binary is built.
func eachWay(t *testing.T, f func(t *testing.T, w way)) {
	t.Helper()
	names := []string{os.Getenv(envWay)}
	if names[0] == "" {
		names = nil
		if p, err := newProvider(t.Context()); err == nil {
			p.Close()
			names = append(names, "container")
		}
		path, _, err := place(runtime.GOOS)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err == nil || names == nil {
			names = append(names, "process")
		}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { f(t, oneWay(t, name)) })
	}
}

func oneWay(t *testing.T, name string) way {
	t.Helper()
	w, err := wayNamed(t.Context(), name)
	if err != nil {
		if errors.Is(err, ErrNone) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	return w
}

func wayNamed(ctx context.Context, name string) (way, error) {
	defer os.Setenv(envWay, os.Getenv(envWay))
	os.Setenv(envWay, name)
	return decide(ctx)
}

// abandon starts a server, prints its address and ends without tidying up.
func abandon(how, dir string) {
	w, err := wayNamed(context.Background(), how)
	if err != nil {
		panic(err)
	}
	s, err := newServer(context.Background(), w, dir)
	if err != nil {
		panic(err)
	}
	fmt.Println(s.Address)
	os.Exit(3)
}

func TestNothingOutlivesTheTestBinary(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		_, how, _ := strings.Cut(t.Name(), "/")
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), envAbandon+"="+how+" "+t.TempDir())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, readErr := bufio.NewReader(out).ReadString('\n')
		err = cmd.Wait()
		address := strings.TrimSpace(line)
		if cmd.ProcessState.ExitCode() != 3 {
			t.Fatalf("the abandoning test binary: %v, %v", err, readErr)
		}
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		bounded(t, func(ctx context.Context) error {
			return until(ctx, always{}, func() error {
				c, err := net.Dial("tcp", u.Host)
				if err != nil {
					return nil
				}
				c.Close()
				return fmt.Errorf("%s still listens", address)
			})
		})
	})
}
