// Package pull gets the images that containers want: by their pull policy, with the credentials of their Pod,
// not again too soon after a failure, and with the events and reasons that Kubernetes has for it.
package pull

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// The reasons of a container that waits for its image.
const (
	ErrPull       = "ErrImagePull"
	BackOff       = "ImagePullBackOff"
	ErrNeverPull  = "ErrImageNeverPull"
	InvalidName   = "InvalidImageName"
	ErrInspect    = "ImageInspectError"
	showPullError = 2 * time.Second
	// retryHopeless is the wait before a failure that only a change elsewhere can repair is looked at again.
	retryHopeless = 10 * time.Second
)

// Config is what a Puller is made from.
type Config struct {
	Images internalapi.ImageManagerService
	// Secret reads the imagePullSecrets of Pods.
	Secret   func(ctx context.Context, pod *v1.Pod, name string) (*v1.Secret, error)
	Recorder record.EventRecorder
	// Clock is the time; nil is the real one.
	Clock clock.PassiveClock
	// MaxParallel is the most pulls at once; 0 is no bound.
	MaxParallel int
	// NodeCredentials is a file of registry credentials, in Docker's config.json form, that every Pod of the
	// node may use; it need not exist, "" is none.
	NodeCredentials string
	// Records is the folder where it is kept which image was pulled with which credentials, so that another
	// Pod cannot use a private image without them; "" keeps nothing and lets every Pod use every image.
	Records string
}

// Puller gets images. It is safe for use from several goroutines.
type Puller struct {
	cfg     Config
	backoff *backoff
	slots   chan struct{} // nil when there is no bound
	records *records
}

// New makes a Puller.
func New(cfg Config) *Puller {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	p := &Puller{cfg: cfg, backoff: newBackoff(), records: newRecords(cfg.Records)}
	if cfg.MaxParallel > 0 {
		p.slots = make(chan struct{}, cfg.MaxParallel)
	}
	return p
}

// Request is one image that a container wants.
type Request struct {
	Pod *v1.Pod
	// For is what events are told of: the container in its Pod.
	For *v1.ObjectReference
	// Image is the name as the spec has it.
	Image  string
	Policy v1.PullPolicy
	// Sandbox is the configuration of the Pod's sandbox; the runtime can be told by it how to pull.
	Sandbox *runtimeapi.PodSandboxConfig
	// Handler is the runtime handler that the image is for, "" for the default.
	Handler string
}

// Result is how it went. With an empty Reason, Ref is the image; else Reason and Message are what the
// container's status says, and Retry is when to ask again.
type Result struct {
	Ref             string
	Reason, Message string
	Retry           time.Time
}

// Ensure makes the image be there, or says why it is not. It returns at once while a failed pull of the same
// image for the same Pod is too recent to be tried again.
func (p *Puller) Ensure(ctx context.Context, req Request) Result {
	image, err := withTag(req.Image)
	if err != nil {
		message := fmt.Sprintf("Failed to apply default image tag %q: %v", req.Image, err)
		p.event(req, v1.EventTypeWarning, "InspectFailed", message)
		return p.fail(req, InvalidName, message, retryHopeless)
	}
	spec := &runtimeapi.ImageSpec{Image: image, RuntimeHandler: req.Handler, Annotations: req.Pod.Annotations}
	creds := &credentials{puller: p, pod: req.Pod, image: image}
	if req.Policy != v1.PullAlways {
		if res, done := p.present(ctx, req, spec, creds); done {
			return res
		}
	}
	return p.pull(ctx, req, spec, creds)
}

// present answers for an image that need not be pulled, or must not be; done is false when it is to be pulled.
func (p *Puller) present(ctx context.Context, req Request, spec *runtimeapi.ImageSpec, creds *credentials) (res Result, done bool) {
	found, err := p.inspect(ctx, spec)
	if err != nil {
		message := fmt.Sprintf("Failed to inspect image %q: %v", spec.Image, err)
		p.event(req, v1.EventTypeWarning, "InspectFailed", message)
		return p.fail(req, ErrInspect, message, retryHopeless), true
	}
	if found != nil && p.mayUse(ctx, req, found.Id, creds) {
		p.event(req, v1.EventTypeNormal, "Pulled",
			fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", req.Image))
		return Result{Ref: found.Id}, true
	}
	if req.Policy == v1.PullNever {
		message := fmt.Sprintf("Container image %q is not present with pull policy of Never", req.Image)
		p.event(req, v1.EventTypeWarning, ErrNeverPull, message)
		return p.fail(req, ErrNeverPull, message, retryHopeless), true
	}
	return Result{}, false
}

// mayUse reports whether the Pod may use an image that is there: it was not pulled with credentials that
// the Pod does not have.
func (p *Puller) mayUse(ctx context.Context, req Request, ref string, creds *credentials) bool {
	free, secrets := p.records.lookup(req.Image, ref)
	if free {
		return true
	}
	mine, err := creds.list(ctx)
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Cannot read all image pull secrets", "pod", klog.KObj(req.Pod), "image", req.Image, "err", err)
	}
	return matches(secrets, mine)
}

func (p *Puller) inspect(ctx context.Context, spec *runtimeapi.ImageSpec) (*runtimeapi.Image, error) {
	resp, err := p.cfg.Images.ImageStatus(ctx, spec, false)
	if err != nil {
		return nil, err
	}
	return resp.GetImage(), nil
}

// pull pulls the image, unless the last try is too recent.
func (p *Puller) pull(ctx context.Context, req Request, spec *runtimeapi.ImageSpec, creds *credentials) Result {
	key := string(req.Pod.UID) + "_" + req.Image
	if until, last, waits := p.backoff.waits(key, p.cfg.Clock.Now()); waits {
		message := fmt.Sprintf("Back-off pulling image %q", req.Image)
		p.event(req, v1.EventTypeNormal, "BackOff", message)
		if last != "" {
			message += ": " + last
		}
		res := p.fail(req, BackOff, message, 0)
		res.Retry = until
		return res
	}
	p.event(req, v1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", req.Image))
	asked := p.cfg.Clock.Now()
	release, err := p.slot(ctx)
	if err != nil {
		return Result{Reason: ErrPull, Message: err.Error()}
	}
	begun := p.cfg.Clock.Now()
	ref, used, err := p.fetch(ctx, req, spec, creds)
	release()
	now := p.cfg.Clock.Now()
	if err != nil {
		if ctx.Err() != nil {
			return Result{Reason: ErrPull, Message: ctx.Err().Error()}
		}
		return p.pullFailed(req, key, err, creds.err)
	}
	p.backoff.forget(key)
	var size uint64
	if found, err := p.inspect(ctx, spec); err == nil && found != nil {
		size = found.Size
	}
	p.event(req, v1.EventTypeNormal, "Pulled", fmt.Sprintf(
		"Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.",
		req.Image, now.Sub(begun).Truncate(time.Millisecond), now.Sub(asked).Truncate(time.Millisecond), size))
	if err := p.records.pulled(req.Image, ref, used, now); err != nil {
		klog.FromContext(ctx).Error(err, "Cannot record which credentials an image was pulled with", "image", req.Image)
	}
	return Result{Ref: ref}
}

// slot waits for leave to pull, and returns how to give it back.
func (p *Puller) slot(ctx context.Context) (release func(), err error) {
	if p.slots == nil {
		return func() {}, nil
	}
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetch asks the runtime to pull, with one credential after the other, or with none when there is none. It
// returns the one that was good.
func (p *Puller) fetch(ctx context.Context, req Request, spec *runtimeapi.ImageSpec, creds *credentials) (string, *credential, error) {
	list, err := creds.list(ctx)
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Cannot read all image pull secrets", "pod", klog.KObj(req.Pod), "image", req.Image, "err", err)
	}
	if err := p.records.intend(req.Image); err != nil {
		return "", nil, fmt.Errorf("record that the image is to be pulled: %w", err)
	}
	defer p.records.over(req.Image)
	if len(list) == 0 {
		ref, err := p.cfg.Images.PullImage(ctx, spec, nil, req.Sandbox)
		return ref, nil, err
	}
	var errs []error
	for i := range list {
		ref, err := p.cfg.Images.PullImage(ctx, spec, list[i].auth(), req.Sandbox)
		if err == nil {
			return ref, &list[i], nil
		}
		errs = append(errs, err)
	}
	return "", nil, utilerrors.NewAggregate(errs)
}

// pullFailed notes a failed pull and returns it; secrets is why not all credentials could be read.
func (p *Puller) pullFailed(req Request, key string, err, secrets error) Result {
	p.event(req, v1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %v", req.Image, err))
	var missing *missingSecrets
	if errors.As(secrets, &missing) && p.cfg.Recorder != nil {
		p.cfg.Recorder.Event(req.Pod, v1.EventTypeWarning, "FailedToRetrieveImagePullSecret", missing.Error())
	}
	reason, message := explain(req.Image, err)
	p.backoff.failed(key, reason+": "+message, p.cfg.Clock.Now())
	return p.fail(req, reason, message, showPullError)
}

// explain turns the runtime's error into the reason and the message of a container's status.
func explain(image string, err error) (reason, message string) {
	words := err.Error()
	known := map[string]string{
		crierrors.ErrRegistryUnavailable.Error():       "the registry is unavailable",
		crierrors.ErrSignatureValidationFailed.Error(): "the signature validation failed",
	}
	for reason, why := range known {
		if rest, ok := strings.CutPrefix(words, reason); ok {
			return reason, fmt.Sprintf("image pull failed for %s because %s%s", image, why, rest)
		}
	}
	return ErrPull, words
}

// fail tells the event that goes with every failure, and returns it.
func (p *Puller) fail(req Request, reason, message string, after time.Duration) Result {
	p.event(req, v1.EventTypeWarning, "Failed", "Error: "+reason)
	return Result{Reason: reason, Message: message, Retry: p.cfg.Clock.Now().Add(after)}
}

func (p *Puller) event(req Request, eventType, reason, message string) {
	if p.cfg.Recorder != nil && req.For != nil {
		p.cfg.Recorder.Event(req.For, eventType, reason, message)
	}
}

// Forget drops what is remembered of failed pulls for a Pod that is gone.
func (p *Puller) Forget(pod *v1.Pod) { p.backoff.forgetAll(string(pod.UID) + "_") }
