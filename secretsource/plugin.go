package secretsource

// A Plugin is a program that plugin: URIs may name, as package plugins/program
// runs it. To allow one is to trust it with the secrets it looks up or the keys
// it signs with.
type Plugin struct {
	// Path is the program's absolute path. The file and every folder above it
	// must be writable by root or this user only.
	Path string
	// SHA256 is the file's SHA-256 in hexadecimal, as sha256sum prints it; empty:
	// any content, and each opened URI keeps to what it finds first.
	SHA256 string
	// Env names the environment variables that the program gets. It gets no other.
	Env []string
}
