package plugins

import (
	"strings"

	"podium.dev/podium/internal/scheduler/framework"
)

// Images below the lower bound in total do not attract a Pod to a node; beyond the upper bound per container
// more makes no difference.
const (
	imagesTooSmall     = 23 << 20
	imagesPerContainer = 1000 << 20
)

// ImageLocality prefers nodes that already have the Pod's images: the larger the image, the more it counts. An
// image counts more if more nodes have it, so that the one node with a rare image is not flooded.
type ImageLocality struct{}

// Name implements framework.Plugin.
func (ImageLocality) Name() string { return ImageLocalityName }

// PreScore implements framework.PreScorer: it lists the Pod's images.
func (ImageLocality) PreScore(pod *framework.PodInfo, _ *framework.Snapshot, _ []*framework.NodeInfo) framework.PreScore {
	var images []string
	spec := &pod.Pod.Spec
	for i := range spec.InitContainers {
		images = append(images, tagged(spec.InitContainers[i].Image))
	}
	for i := range spec.Containers {
		images = append(images, tagged(spec.Containers[i].Image))
	}
	for i := range spec.Volumes {
		if image := spec.Volumes[i].Image; image != nil {
			images = append(images, tagged(image.Reference))
		}
	}
	return framework.PreScore{State: images}
}

// tagged appends the implied tag to an image without one.
func tagged(image string) string {
	if strings.LastIndex(image, ":") <= strings.LastIndex(image, "/") {
		return image + ":latest"
	}
	return image
}

// Score implements framework.Scorer.
func (ImageLocality) Score(state any, _ *framework.PodInfo, snapshot *framework.Snapshot, node *framework.NodeInfo) int64 {
	images, _ := state.([]string)
	if len(images) == 0 || len(node.Images) == 0 {
		return 0
	}
	var sum int64
	for _, image := range images {
		if size, ok := node.Images[image]; ok {
			sum += int64(float64(size) * float64(snapshot.ImageNodes[image]) / float64(len(snapshot.Nodes)))
		}
	}
	most := int64(imagesPerContainer * len(images))
	return framework.MaxScore * (min(max(sum, imagesTooSmall), most) - imagesTooSmall) / (most - imagesTooSmall)
}

// Hints implements framework.Hinter.
func (ImageLocality) Hints() []framework.Hint { return nil }
