package aws_test

import (
	"os"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/smartcred/smartcred/internal/awstest"
)

// TestAWS runs against the AWS that the environment asks for:
//
//   - SMARTCRED_TEST_AWS=1: the account that the SDK's own chain finds, see
//     [awstest.Run] for what it makes there and what that costs
//   - SMARTCRED_TEST_LOCALSTACK=IMAGE, such as localstack/localstack:4: LocalStack
//     in a container of that image, which needs Docker
//
// Without either there is nothing to test: the fake passes the same body where
// it is at home.
func TestAWS(t *testing.T) {
	if os.Getenv("SMARTCRED_TEST_AWS") == "1" {
		t.Run("account", awstest.Run)
	}
	if image := os.Getenv("SMARTCRED_TEST_LOCALSTACK"); image != "" {
		t.Run("LocalStack", func(t *testing.T) {
			pointTo(t, startLocalStack(t, image))
			awstest.Run(t)
		})
	}
}

func startLocalStack(t *testing.T, image string) (url string) {
	t.Helper()
	const port = "4566/tcp"
	container, err := testcontainers.Run(t.Context(), image,
		testcontainers.WithExposedPorts(port),
		testcontainers.WithEnv(map[string]string{"SERVICES": "kms,secretsmanager"}),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/_localstack/health").WithPort(port).WithStartupTimeout(2*time.Minute)),
	)
	testcontainers.CleanupContainer(t, container)
	if err != nil {
		t.Fatal(err)
	}
	url, err = container.PortEndpoint(t.Context(), port, "http")
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// pointTo makes the SDK talk to an emulator, with nothing else that the machine has.
func pointTo(t *testing.T, url string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
}
