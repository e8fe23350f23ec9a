// Command gen writes zz_generated.openapi.go, the OpenAPI definitions of the served types. Run it with "go
// generate" in the parent folder after changing the version of k8s.io/api or the list below.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

const (
	output = "zz_generated.openapi.go"
	module = "k8s.io/kube-openapi"
)

// packages are the packages whose types are described.
var packages = []string{
	"k8s.io/api/apps/v1",
	"k8s.io/api/authentication/v1",
	"k8s.io/api/authorization/v1",
	"k8s.io/api/autoscaling/v1",
	"k8s.io/api/autoscaling/v2",
	"k8s.io/api/batch/v1",
	"k8s.io/api/certificates/v1",
	"k8s.io/api/coordination/v1",
	"k8s.io/api/core/v1",
	"k8s.io/api/discovery/v1",
	"k8s.io/api/events/v1",
	"k8s.io/api/networking/v1",
	"k8s.io/api/node/v1",
	"k8s.io/api/policy/v1",
	"k8s.io/api/rbac/v1",
	"k8s.io/api/scheduling/v1",
	"k8s.io/api/scheduling/v1alpha3",
	"k8s.io/api/storage/v1",
	"k8s.io/apimachinery/pkg/api/resource",
	"k8s.io/apimachinery/pkg/apis/meta/v1",
	"k8s.io/apimachinery/pkg/runtime",
	"k8s.io/apimachinery/pkg/util/intstr",
	"k8s.io/apimachinery/pkg/version",
	"k8s.io/metrics/pkg/apis/metrics/v1beta1",
}

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate() error {
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", module).Output()
	if err != nil {
		return fmt.Errorf("find the version of %s: %w", module, err)
	}
	args := []string{
		"run", module + "/cmd/openapi-gen@" + strings.TrimSpace(string(version)),
		"--output-dir=.", "--output-pkg=podium.dev/podium/internal/openapi", "--output-file=" + output,
		"--report-filename=" + os.DevNull,
	}
	run := exec.Command("go", append(args, packages...)...)
	run.Stderr = os.Stderr
	if err := run.Run(); err != nil {
		return fmt.Errorf("run openapi-gen: %w", err)
	}
	code, err := os.ReadFile(output)
	if err != nil {
		return err
	}
	if code, err = lazy(code); err != nil {
		return err
	}
	return os.WriteFile(output, code, 0o644)
}

// lazy turns the generated map of definitions into a map of functions, so that a definition is built only when
// it is needed.
func lazy(code []byte) ([]byte, error) {
	head := []byte("func GetOpenAPIDefinitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {\n\treturn map[string]common.OpenAPIDefinition{")
	if !bytes.Contains(code, head) {
		return nil, fmt.Errorf("%s does not start as expected; has openapi-gen changed?", output)
	}
	code = bytes.Replace(code, head, []byte("func definitions() map[string]definition {\n\treturn map[string]definition{"), 1)
	return regexp.MustCompile(`(?m)^(.*OpenAPIModelName\(\): +schema_\w+)\(ref\),$`).ReplaceAll(code, []byte("$1,")), nil
}
