package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shellSource is a one-shot secret source in shell.
const shellSource = `#!/bin/sh
read -r line
id=${line#'{"id":'}
id=${id%%,*}
fail() { echo "{\"id\":$id,\"error\":{\"code\":\"$1\"}}"; }
case $line in
*'"method":"hello","protocols":'*[[,]1[],]*) echo "{\"id\":$id,\"protocol\":1,\"mode\":\"one-shot\",\"roles\":[\"source\"]}" ;;
*'"method":"hello"'*) fail unsupported_protocol ;;
*'"method":"lookup"'*'"stage":"current"'*) echo "looking up for $CALLER" >&2; echo "{\"id\":$id,\"secret\":\"s3cr3t-of-the-plugin\",\"version\":\"7\"}" ;;
*'"method":"lookup"'*) fail not_found ;;
*) fail unsupported_method ;;
esac
`

// program writes a program that only this user can change.
func (w *world) program(name, content string) string {
	w.t.Helper()
	path := w.write("bin/"+name, content)
	for _, p := range []string{path, filepath.Dir(path), w.dir, filepath.Dir(w.dir)} {
		if err := os.Chmod(p, 0o700); err != nil {
			w.t.Fatal(err)
		}
	}
	return path
}

func TestPluginAsSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.secrets("s3cr3t-of-the-plugin", "", "")
	path := w.program("smartcred-plugin-shell", shellSource)
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(shellSource)))
	w.write("smartcred.yaml", "secret: plugin://shell/app\nplugins:\n  shell: {path: "+path+", sha256: "+hash+"}\n")
	w.run(w.args("token", "--config", "smartcred.yaml")...).ok()

	w.check("--config", "smartcred.yaml").says(exitDone, "ok secret current: version 7")
	w.write("unpinned.yaml", "secret: plugin://shell/app\nplugins:\n  shell: {path: "+path+"}\n")
	w.check("--config", "unpinned.yaml").says(exitFound, "warn plugin shell: has no sha256")

	// On PATH, and only when that is allowed.
	w.env = append(w.env, "PATH="+filepath.Dir(path)+":/usr/bin:/bin")
	w.run(w.args("token", "--secret", "plugin://shell/app")...).fails(exitUsage, "secret: can't be used: open: plugin: plugins.shell: is not allowed")
	w.run(w.args("token", "--secret", "plugin://shell/app", "--allow-path-plugins")...).ok()

	w.program("smartcred-plugin-shell", shellSource+"# changed\n")
	w.run(w.args("token", "--config", "smartcred.yaml")...).fails(exitUsage, "sha256: is not that of the program")
	w.program("smartcred-plugin-shell", "#!/bin/sh\nread -r line\necho s3cr3t; exit 1\n")
	r := w.run(w.args("token", "--secret", "plugin://shell/app", "--allow-path-plugins")...)
	r.fails(exitBackend, "broke the protocol")
	if strings.Contains(r.stderr, "s3cr3t") {
		t.Errorf("what the program wrote is in an error: %s", r.stderr)
	}
}

func TestPluginCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	path := w.program("shell", shellSource)
	w.write("smartcred.yaml", "plugins:\n  shell: {path: "+path+"}\n")
	r := w.run("plugin", "check", "shell", "--config", "smartcred.yaml")
	r.says(exitDone, "ok protocol it says which version", "ok protocol it refuses protocol versions", "ok protocol it chooses a version",
		"ok protocol it refuses methods", "ok secret it keeps every promise of a secret source")
	if !strings.Contains(r.stderr, "plugin: looking up for") || strings.Contains(r.stdout+r.stderr, "s3cr3t") {
		t.Errorf("standard error %q", r.stderr)
	}
	report := decodeJSON[health](t, w.run("plugin", "check", "shell/app?x=y", "--config", "smartcred.yaml", "--json").ok())
	if report.Status != verdictOK || len(report.Checks) != 5 {
		t.Errorf("%+v", report)
	}

	w.program("shell", strings.Replace(shellSource, "fail unsupported_method", "fail denied", 1))
	w.run("plugin", "check", "shell", "--config", "smartcred.yaml").says(exitFound, "fail protocol it refuses methods that it does not know: no: it refuses with another error than unsupported_method")
	w.program("shell", "#!/bin/sh\nexit 9\n")
	w.run("plugin", "check", "shell", "--config", "smartcred.yaml").says(exitFound, "fail protocol it says which version of the protocol it speaks, how it lives and what it can be: no: it ended (exit status 9)")
	w.program("shell", strings.Replace(shellSource, `"stage":"current"`, `"stage":"none"`, 1))
	w.run("plugin", "check", "shell", "--config", "smartcred.yaml").says(exitFound, "fail secret there is no secret under that path")
	w.program("shell", strings.Replace(strings.Replace(shellSource, `"stage":"current"`, `"stage":"none"`, 1), "fail not_found", "fail denied", 1))
	r = w.run("plugin", "check", "shell", "--config", "smartcred.yaml")
	r.says(exitFound, "fail secret it gives no secret, so nothing of a secret source can be looked at: ")
	if strings.Count(r.stdout, "denied") != 1 {
		t.Errorf("one reason is said more than once: %s", r.stdout)
	}

	w.run("plugin", "check", "--config", "smartcred.yaml").fails(exitUsage, "name one plugin")
	w.run("plugin", "check", "other", "--config", "smartcred.yaml").fails(exitUsage, "plugins.other: is not allowed")
	w.run("plugin", "check", "../shell", "--config", "smartcred.yaml").fails(exitUsage, "not of the form plugin://NAME")
}

// TestPluginEndsWithSmartcred: a program that hangs too.
func TestPluginEndsWithSmartcred(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	path := w.program("deaf", "#!/bin/sh\necho $$ >"+w.dir+"/pid\nexec sleep 1000\n")
	w.write("smartcred.yaml", "plugins:\n  deaf: {path: "+path+"}\ntimeout: 1s\n")
	cmd := w.command("plugin", "check", "deaf", "--config", "smartcred.yaml")
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != exitFound {
		t.Errorf("it ended with %v: %s", err, out.String())
	}
	if err := exec.Command("kill", "-0", strings.TrimSpace(read(t, w.dir+"/pid"))).Run(); err == nil {
		t.Error("the program runs")
	}
}
