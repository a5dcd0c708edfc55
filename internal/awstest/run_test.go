package awstest_test

import (
	"testing"

	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/internal/awstest"
)

func TestFake(t *testing.T) {
	aws := awsfake.New(nil)
	t.Cleanup(aws.Close)
	for name, value := range aws.Environment() {
		t.Setenv(name, value)
	}
	awstest.Run(t)
}
