package vaulttest

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
)

const (
	// PublicImage is HashiCorp's own, of the version that vaultserver/ builds.
	PublicImage = "hashicorp/vault:1.21"

	builtRepository = "smartcred-test/vault"
	label           = "com.github.smartcred.test"

	inside     = "/smartcred" // where a container sees the folder of its server
	insidePort = 8200
	testHost   = "smartcred-test" // what a container calls the machine that it is on
)

// A docker is the way that runs nodes in containers of one image. Nodes of one
// cluster share a network, in which a node's name is its address.
type docker struct {
	image string
	built bool // the image holds our binary and nothing else, no shell either
	net   *testcontainers.DockerNetwork
}

func (d *docker) String() string {
	if d.built {
		return "container, image built from the module"
	}
	return "container, image " + d.image
}

// newProvider returns a client of Docker, and an error where Docker doesn't answer.
func newProvider(ctx context.Context) (*testcontainers.DockerProvider, error) {
	// The reaper would be one more image to pull; containers end with their
	// standard input instead. Testcontainers reads this once.
	if _, set := os.LookupEnv("TESTCONTAINERS_RYUK_DISABLED"); !set {
		os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
	}
	log.SetDefault(log.NewNoopLogger())
	p, err := testcontainers.NewDockerProvider()
	if err != nil {
		return nil, fmt.Errorf("vaulttest: reach Docker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := p.Client().Info(ctx, client.InfoOptions{}); err != nil {
		return nil, fmt.Errorf("vaulttest: reach Docker: %w", err)
	}
	return p, nil
}

// newDocker decides about the image, and pulls or builds it if it isn't there.
func newDocker(ctx context.Context) (*docker, error) {
	p, err := newProvider(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if image := os.Getenv(envImage); image != "" {
		if !have(ctx, p, image) {
			if err := pull(ctx, p, image); err != nil {
				return nil, fmt.Errorf("vaulttest: pull image %s of %s: %w", image, envImage, err)
			}
		}
		return &docker{image: image}, nil
	}
	if have(ctx, p, PublicImage) || pull(ctx, p, PublicImage) == nil {
		return &docker{image: PublicImage}, nil
	}
	path, key, err := binary(ctx, "linux")
	if err != nil {
		return nil, err
	}
	d := &docker{image: builtRepository + ":" + key, built: true}
	if have(ctx, p, d.image) {
		return d, nil
	}
	return d, buildImage(ctx, p, path, key)
}

func have(ctx context.Context, p *testcontainers.DockerProvider, image string) bool {
	_, err := p.Client().ImageInspect(ctx, image)
	return err == nil
}

// pull tries once and without credentials: where there is no way to the
// registry, the answer is quick or the time-out short, and the caller goes on.
func pull(ctx context.Context, p *testcontainers.DockerProvider, image string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	answer := time.AfterFunc(30*time.Second, cancel)
	resp, err := p.Client().ImagePull(ctx, image, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	answer.Stop()
	return resp.Wait(ctx)
}

// buildImage makes an image of the binary alone.
func buildImage(ctx context.Context, p *testcontainers.DockerProvider, path, key string) error {
	archive, err := os.CreateTemp("", "smartcred-vault-*.tar")
	if err != nil {
		return fmt.Errorf("vaulttest: build image: %w", err)
	}
	defer os.Remove(archive.Name())
	defer archive.Close()
	if err := writeContext(archive, path); err != nil {
		return fmt.Errorf("vaulttest: build image: %w", err)
	}
	_, err = p.BuildImage(ctx, &testcontainers.ContainerRequest{FromDockerfile: testcontainers.FromDockerfile{
		ContextArchive: archive,
		Repo:           builtRepository,
		Tag:            key,
		KeepImage:      true,
	}})
	if err != nil {
		return fmt.Errorf("vaulttest: build image: %w", err)
	}
	return nil
}

// writeContext writes what `docker build` is to be given.
func writeContext(w io.WriteSeeker, binary string) error {
	f, err := os.Open(binary)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	const dockerfile = "FROM scratch\nCOPY vault /bin/vault\nENTRYPOINT [\"/bin/vault\"]\n"
	tw := tar.NewWriter(w)
	tw.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(dockerfile))})
	io.WriteString(tw, dockerfile)
	tw.WriteHeader(&tar.Header{Name: "vault", Mode: 0o755, Size: info.Size()})
	if _, err := io.Copy(tw, f); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	_, err = w.Seek(0, io.SeekStart)
	return err
}

// join gives the nodes of a cluster a network. What a killed test binary left
// behind goes: networks, unlike containers, don't end with it.
func (d *docker) join(ctx context.Context) (way, error) {
	p, err := newProvider(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	old := client.Filters{}.Add("label", label).Add("until", "10m")
	if _, err := p.Client().NetworkPrune(ctx, client.NetworkPruneOptions{Filters: old}); err != nil {
		return nil, fmt.Errorf("vaulttest: remove old networks: %w", err)
	}
	joined := *d
	joined.net, err = tcnetwork.New(ctx, tcnetwork.WithLabels(map[string]string{label: "cluster"}))
	if err != nil {
		return nil, fmt.Errorf("vaulttest: make network: %w", err)
	}
	return &joined, nil
}

func (d *docker) close(ctx context.Context) error {
	if d.net == nil {
		return nil
	}
	return d.net.Remove(ctx)
}

func (d *docker) folder(string) string { return inside }

func (d *docker) places(name string, _ [2]int) places {
	at := hostAt(name)
	return places{
		listen:  hostAt("0.0.0.0")(insidePort),
		cluster: hostAt("0.0.0.0")(insidePort + 1),
		peer:    "https://" + at(insidePort),
		raft:    "https://" + at(insidePort+1),
	}
}

// here is every address: the one of Docker's bridge is not known beforehand.
func (d *docker) here() (listen, host string) { return "0.0.0.0", testHost }

func (d *docker) start(ctx context.Context, n *node) (running, error) {
	out, err := n.openLog()
	if err != nil {
		return nil, err
	}
	b := &box{log: out, gone: make(chan struct{})}
	args := []string{"server", "-config=" + inside + "/" + n.name + "/config.json"}
	entrypoint := []string{"/bin/vault"}
	env := map[string]string{"HOME": inside}
	if d.built {
		env[tether] = "1"
	} else {
		// HashiCorp's image has a shell, and a Vault that doesn't know of our tether.
		entrypoint = []string{"/bin/sh", "-c"}
		args = []string{`exec 3<&0; vault "$0" "$@" & v=$!; { cat <&3 >/dev/null; kill -9 $v; } & wait $v`, args[0], args[1]}
	}
	req := testcontainers.ContainerRequest{
		Image:        d.image,
		Entrypoint:   entrypoint,
		Cmd:          args,
		Env:          env,
		ExposedPorts: []string{strconv.Itoa(insidePort) + "/tcp"},
		Labels:       map[string]string{label: "vault"},
		ConfigModifier: func(c *container.Config) {
			c.OpenStdin, c.StdinOnce = true, true
			if os.Getuid() >= 0 {
				c.User = fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()) // so that the test can read and remove the files
			}
		},
		HostConfigModifier: func(h *container.HostConfig) {
			h.AutoRemove = true
			h.ExtraHosts = []string{testHost + ":host-gateway"}
			h.Binds = []string{n.root + ":" + inside}
			h.CapAdd = []string{"IPC_LOCK"} // the public image's binary doesn't start without
			h.PortBindings = network.PortMap{
				network.MustParsePort(strconv.Itoa(insidePort) + "/tcp"): {{
					HostIP: netip.AddrFrom4([4]byte{127, 0, 0, 1}), HostPort: strconv.Itoa(n.ports[0]),
				}},
			}
		},
		// Attached before it starts, or a death in between would leave it behind.
		LifecycleHooks: []testcontainers.ContainerLifecycleHooks{{
			PostCreates: []testcontainers.ContainerHook{b.attach},
		}},
	}
	if d.net != nil {
		req.Networks = []string{d.net.Name}
		req.NetworkAliases = map[string][]string{d.net.Name: {n.name}}
	}
	_, err = testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{ContainerRequest: req, Started: true})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("vaulttest: start container: %w", err), b.stop(context.WithoutCancel(ctx)))
	}
	return b, nil
}

// A box is a running container: the connection that keeps it alive.
type box struct {
	id     string
	docker *testcontainers.DockerClient
	conn   client.ContainerAttachResult
	log    io.WriteCloser
	gone   chan struct{}
}

// attach holds the container's standard input, and copies its output to the log.
func (b *box) attach(ctx context.Context, c testcontainers.Container) error {
	var err error
	b.id = c.GetContainerID()
	if b.docker, err = testcontainers.NewDockerClientWithOpts(ctx); err != nil {
		return err
	}
	b.conn, err = b.docker.ContainerAttach(ctx, b.id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return err
	}
	go func() {
		defer close(b.gone)
		defer b.log.Close()
		stdcopy.StdCopy(b.log, b.log, b.conn.Reader) // ends with the container
	}()
	return nil
}

func (b *box) ended() <-chan struct{} { return b.gone }

// stop kills and removes the container: the port is free when it returns.
func (b *box) stop(ctx context.Context) error {
	if b.docker == nil {
		return b.log.Close()
	}
	defer b.docker.Close()
	_, err := b.docker.ContainerRemove(ctx, b.id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if b.conn.Conn != nil {
		b.conn.Close()
		<-b.gone
	}
	// It removes itself as well: being too late is fine.
	for {
		if _, gone := b.docker.ContainerInspect(ctx, b.id, client.ContainerInspectOptions{}); gone != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("vaulttest: remove container: %w", errors.Join(ctx.Err(), err))
		case <-time.After(10 * time.Millisecond):
		}
	}
}
