// Command openapi-gen writes zz_generated.openapi.go, the OpenAPI definitions of the served types. Run it with "go
// generate" in internal/openapi after a group has been added or the version of k8s.io/api has changed.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"podium.dev/podium/internal/apiserver/metricsapi"
	"podium.dev/podium/internal/apiserver/review"
	"podium.dev/podium/internal/registry/kinds"
	"podium.dev/podium/internal/registry/kit"
)

const (
	output = "zz_generated.openapi.go"
	module = "k8s.io/kube-openapi"
)

// others are the described packages that belong to no served group: those of types within the groups' types.
var others = []string{
	"k8s.io/api/scheduling/v1alpha3",
	"k8s.io/apimachinery/pkg/api/resource",
	"k8s.io/apimachinery/pkg/apis/meta/v1",
	"k8s.io/apimachinery/pkg/runtime",
	"k8s.io/apimachinery/pkg/util/intstr",
	"k8s.io/apimachinery/pkg/version",
}

// packages returns the packages whose types are described: those of the versions of all groups, and the others.
func packages() ([]string, error) {
	all := slices.Clone(others)
	for _, g := range slices.Concat(kinds.Groups(), review.Groups(), []kit.Group{metricsapi.Group()}) {
		for _, v := range g.Versions {
			s := runtime.NewScheme()
			if err := v.AddToScheme(s); err != nil {
				return nil, fmt.Errorf("register the types of %s: %w", v.GroupVersion, err)
			}
			for _, t := range s.KnownTypes(v.GroupVersion) {
				if p := t.PkgPath(); !slices.Contains(all, p) {
					all = append(all, p)
				}
			}
		}
	}
	slices.Sort(all)
	return all, nil
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
	described, err := packages()
	if err != nil {
		return err
	}
	run := exec.Command("go", append(args, described...)...)
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
