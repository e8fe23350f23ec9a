package pull

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// withTag returns the image's name, with the tag "latest" when it has neither tag nor digest. The name is
// otherwise left as it is: the runtime knows how to complete a short one.
func withTag(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("couldn't parse image name %q: %w", image, err)
	}
	if reference.IsNameOnly(named) {
		return image + ":latest", nil
	}
	return image, nil
}

// repository is the image's name without tag and digest, complete with its registry.
func repository(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("couldn't parse image name %q: %w", image, err)
	}
	return named.Name(), nil
}

// bare is the image's name as it was given, without tag and digest.
func bare(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndexByte(image, ':'); colon > strings.LastIndexByte(image, '/') {
		image = image[:colon]
	}
	return image
}
