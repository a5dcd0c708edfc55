package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/smartcred/smartcred"
	_ "github.com/smartcred/smartcred/plugins/program" // plugin: URIs
	"github.com/smartcred/smartcred/plugins/program/pluginmain"
	"github.com/smartcred/smartcred/secretsource"
)

// pluginEnv makes this program be one of the programs that are measured.
const pluginEnv = "SMARTCRED_BENCH_PLUGIN"

const (
	asPlugin = "plugin" // a plugin in Go
	asEcho   = "echo"   // writes the lines that it reads
)

func bePlugin(role string) {
	if role == asEcho {
		in := bufio.NewReader(os.Stdin)
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if _, err := os.Stdout.Write(line); err != nil {
				return
			}
		}
	}
	pluginmain.Main(pluginmain.Plugin{
		Source: func(context.Context, *url.URL, *secretsource.OpenOptions) (secretsource.Source, error) {
			return secretsource.Static([]byte("a client secret of some length")), nil
		},
	})
}

// oneShot is a plugin that is started for each request.
const oneShot = `#!/bin/sh
IFS= read -r line
id=${line#'{"id":'}
id=${id%%,*}
case $line in
*'"method":"hello"'*) echo "{\"id\":$id,\"protocol\":1,\"mode\":\"one-shot\",\"roles\":[\"source\"]}" ;;
*) echo "{\"id\":$id,\"secret\":\"x\",\"version\":\"1\"}" ;;
esac
`

// pluginPrograms compares a look-up by a long-lived plugin with a line that goes
// through two pipes and comes back, and one by a one-shot plugin with the same
// program started by hand.
func pluginPrograms() ([]result, error) {
	dir, err := os.MkdirTemp("", "smartcred-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	script := filepath.Join(dir, "one-shot")
	if err := os.WriteFile(script, []byte(oneShot), 0o700); err != nil {
		return nil, err
	}
	self, err := ownCopy(dir)
	if err != nil {
		return nil, err
	}

	var long [2][]float64
	for range starts {
		times, err := longLived(self)
		if err != nil {
			return nil, err
		}
		for i := range long {
			long[i] = append(long[i], times[i]...)
		}
	}
	lookup, stop, err := openPlugin("one-shot", secretsource.Plugin{Path: script})
	if err != nil {
		return nil, err
	}
	defer stop()
	single := race(40, lookup, contender{"bare start", func(n int) {
		for range n {
			cmd := exec.Command(script)
			cmd.Stdin = bytes.NewReader([]byte(request))
			must(cmd.Run())
		}
	}})
	return []result{
		against("by a long-lived one : a line through two pipes and back", long[0], long[1], 2),
		against("by a one-shot one : the same program started bare", single[0], single[1], unbounded),
	}, nil
}

// starts is how often both programs are started: how quickly a process is woken
// depends on the core that it came to run on, and may stay so for all its life.
const starts = 8

// longLived measures one life of a long-lived plugin and of a bare program.
func longLived(self string) ([][]float64, error) {
	if err := os.Setenv(pluginEnv, asPlugin); err != nil {
		return nil, err
	}
	defer os.Unsetenv(pluginEnv)
	lookup, stop, err := openPlugin("long-lived", secretsource.Plugin{Path: self, Env: []string{pluginEnv}})
	if err != nil {
		return nil, err
	}
	defer stop()
	lookup.run(1) // starts it
	if err := os.Setenv(pluginEnv, asEcho); err != nil {
		return nil, err
	}
	echo, end, err := startEcho(self)
	if err != nil {
		return nil, err
	}
	defer end()
	return alternate(2_000, lookup, echo), nil
}

// openPlugin returns a contender that looks a secret up.
func openPlugin(name string, plugin secretsource.Plugin) (c contender, stop func(), err error) {
	ctx := context.Background()
	src, err := secretsource.Open(ctx, "plugin://"+name+"/app", &secretsource.OpenOptions{
		Observer: smartcred.Discard, Plugins: map[string]secretsource.Plugin{name: plugin},
	})
	if err != nil {
		return c, nil, err
	}
	c = contender{name, func(n int) {
		for range n {
			_, err := src.Lookup(ctx, secretsource.Current)
			must(err)
		}
	}}
	return c, func() { _ = src.(io.Closer).Close() }, nil
}

// request is what the parent writes for a look-up.
const request = `{"id":1234,"method":"lookup","protocol":1,"timeout_ms":29999,"path":"app","stage":"current"}` + "\n"

// ownCopy copies this program to where only this user can write.
func ownCopy(dir string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "bench")
	return path, os.WriteFile(path, content, 0o700)
}

// startEcho starts a program that does nothing but answer.
func startEcho(self string) (c contender, stop func(), err error) {
	cmd := exec.Command(self)
	in, err := cmd.StdinPipe()
	if err != nil {
		return c, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return c, nil, err
	}
	if err := cmd.Start(); err != nil {
		return c, nil, err
	}
	lines := bufio.NewReader(out)
	c = contender{"bare pipes", func(n int) {
		for range n {
			_, err := io.WriteString(in, request)
			must(err)
			line, err := lines.ReadSlice('\n')
			must(err)
			if len(line) != len(request) {
				must(errors.New("the line came back otherwise"))
			}
		}
	}}
	return c, func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: echo:", err)
		}
	}, nil
}
