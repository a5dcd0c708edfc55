//go:build race

package rotation_test

// raced: the race detector makes everything ten times slower.
const raced = true
