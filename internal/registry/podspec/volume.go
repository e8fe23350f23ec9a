package podspec

import (
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// fileModeRule is what the mode of a file in a volume must be.
const fileModeRule = "must be a number between 0 and 0777 (octal), both inclusive"

// checkVolumes goes through spec.volumes and keeps those without a fault in c.volumes.
func (c *checker) checkVolumes(at *field.Path) {
	c.volumes = map[string]*corev1.VolumeSource{}
	made := c.claimsMade()
	for i := range c.spec.Volumes {
		v := &c.spec.Volumes[i]
		path, before := at.Index(i), len(c.List)
		c.volumeSource(v, path)
		if v.Name == "" {
			c.Required(path.Child("name"), "")
		} else {
			c.dnsLabel(v.Name, path.Child("name"))
		}
		if _, taken := c.volumes[v.Name]; taken {
			c.Duplicate(path.Child("name"), v.Name)
		}
		if len(c.List) == before {
			c.volumes[v.Name] = &v.VolumeSource
		}
		if claim := v.PersistentVolumeClaim; claim != nil && made.Has(claim.ClaimName) {
			c.Invalid(path.Child("persistentVolumeClaim", "claimName"), claim.ClaimName, "must not reference a PVC that gets created for an ephemeral volume")
		}
	}
}

// claimsMade are the names of the claims that will be made for the Pod's ephemeral volumes.
func (c *checker) claimsMade() sets.Set[string] {
	made := sets.New[string]()
	for i := range c.spec.Volumes {
		if name := c.claimName(c.spec.Volumes[i].Name); name != "" && c.spec.Volumes[i].Ephemeral != nil {
			made.Insert(name)
		}
	}
	return made
}

// claimName is the name of the claim for an ephemeral volume; empty when the Pod's name is not known.
func (c *checker) claimName(volume string) string {
	if c.meta == nil || c.meta.Name == "" {
		return ""
	}
	return c.meta.Name + "-" + volume
}

// alternatives lets exactly one of several fields be set: the first that is set is judged, any other is
// forbidden.
type alternatives struct {
	c     *checker
	path  *field.Path
	what  string
	taken bool
}

// is names an alternative; check judges its value.
func (a *alternatives) is(set bool, name string, check func()) {
	switch {
	case !set:
	case a.taken:
		a.c.Forbidden(a.path.Child(name), "may not specify more than 1 "+a.what)
	default:
		a.taken = true
		check()
	}
}

// volumeSource judges the type of a volume. Four of the paths differ from the field's name, as they do in Kubernetes.
func (c *checker) volumeSource(v *corev1.Volume, at *field.Path) {
	s, types := &v.VolumeSource, &alternatives{c: c, path: at, what: "volume type"}
	under := func(name string) *field.Path { return at.Child(name) }
	types.is(s.EmptyDir != nil, "emptyDir", func() { c.emptyDir(s.EmptyDir, under("emptyDir")) })
	types.is(s.HostPath != nil, "hostPath", func() { c.hostPath(s.HostPath, under("hostPath")) })
	types.is(s.GitRepo != nil, "gitRepo", func() { c.gitRepo(s.GitRepo, under("gitRepo")) })
	types.is(s.GCEPersistentDisk != nil, "gcePersistentDisk", func() { c.gceDisk(s.GCEPersistentDisk, under("persistentDisk")) })
	types.is(s.AWSElasticBlockStore != nil, "awsElasticBlockStore", func() { c.awsDisk(s.AWSElasticBlockStore, under("awsElasticBlockStore")) })
	types.is(s.Secret != nil, "secret", func() { c.secretVolume(s.Secret, under("secret")) })
	types.is(s.NFS != nil, "nfs", func() { c.nfs(s.NFS, under("nfs")) })
	types.is(s.ISCSI != nil, "iscsi", func() { c.iscsi(s.ISCSI, under("iscsi")) })
	if s.ISCSI != nil {
		c.iscsiNameLength(v.Name, s.ISCSI, under("name"))
	}
	types.is(s.Glusterfs != nil, "glusterfs", func() { c.glusterfs(s.Glusterfs, under("glusterfs")) })
	types.is(s.Flocker != nil, "flocker", func() { c.flocker(s.Flocker, under("flocker")) })
	types.is(s.PersistentVolumeClaim != nil, "persistentVolumeClaim", func() {
		c.needs(s.PersistentVolumeClaim.ClaimName, under("persistentVolumeClaim").Child("claimName"))
	})
	types.is(s.RBD != nil, "rbd", func() { c.rbd(s.RBD, under("rbd")) })
	types.is(s.Cinder != nil, "cinder", func() { c.cinder(s.Cinder, under("cinder")) })
	types.is(s.CephFS != nil, "cephFS", func() { c.cephFS(s.CephFS, under("cephfs")) })
	types.is(s.Quobyte != nil, "quobyte", func() { c.quobyte(s.Quobyte, under("quobyte")) })
	types.is(s.DownwardAPI != nil, "downwarAPI", func() { c.downwardVolume(s.DownwardAPI, under("downwardAPI")) })
	types.is(s.FC != nil, "fc", func() { c.fibreChannel(s.FC, under("fc")) })
	types.is(s.FlexVolume != nil, "flexVolume", func() { c.flexVolume(s.FlexVolume, under("flexVolume")) })
	types.is(s.ConfigMap != nil, "configMap", func() { c.configMapVolume(s.ConfigMap, under("configMap")) })
	types.is(s.AzureFile != nil, "azureFile", func() { c.azureFile(s.AzureFile, under("azureFile")) })
	types.is(s.VsphereVolume != nil, "vsphereVolume", func() { c.needs(s.VsphereVolume.VolumePath, under("vsphereVolume").Child("volumePath")) })
	types.is(s.PhotonPersistentDisk != nil, "photonPersistentDisk", func() { c.needs(s.PhotonPersistentDisk.PdID, under("photonPersistentDisk").Child("pdID")) })
	types.is(s.PortworxVolume != nil, "portworxVolume", func() { c.needs(s.PortworxVolume.VolumeID, under("portworxVolume").Child("volumeID")) })
	types.is(s.AzureDisk != nil, "azureDisk", func() { c.azureDisk(s.AzureDisk, under("azureDisk")) })
	types.is(s.StorageOS != nil, "storageos", func() { c.storageOS(s.StorageOS, under("storageos")) })
	types.is(s.Projected != nil, "projected", func() { c.projected(s.Projected, under("projected")) })
	types.is(s.ScaleIO != nil, "scaleIO", func() { c.scaleIO(s.ScaleIO, under("scaleIO")) })
	types.is(s.CSI != nil, "csi", func() { c.csi(s.CSI, under("csi")) })
	types.is(s.Ephemeral != nil, "ephemeral", func() { c.ephemeralVolume(v.Name, s.Ephemeral, at) })
	types.is(s.Image != nil, "image", func() { c.imageVolume(s.Image, under("image")) })
	if !types.taken {
		c.Required(at, "must specify a volume type")
	}
}

func (c *checker) emptyDir(d *corev1.EmptyDirVolumeSource, at *field.Path) {
	if d.SizeLimit != nil && d.SizeLimit.Sign() < 0 {
		c.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")
	}
}

func (c *checker) hostPath(h *corev1.HostPathVolumeSource, at *field.Path) {
	if h.Path == "" {
		c.Required(at.Child("path"), "")
		return
	}
	noBacksteps(&c.List, h.Path, at.Child("path"))
	if h.Type != nil {
		fielderrors.OneOf(&c.List, at.Child("type"), *h.Type, corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev,
			corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket)
	}
}

func (c *checker) secretVolume(s *corev1.SecretVolumeSource, at *field.Path) {
	c.needs(s.SecretName, at.Child("secretName"))
	c.fileMode(s.DefaultMode, at.Child("defaultMode"))
	c.user(s.DefaultUser, at.Child("defaultUser"))
	c.keysToPaths(s.Items, at.Child("items"), nil)
}

func (c *checker) configMapVolume(m *corev1.ConfigMapVolumeSource, at *field.Path) {
	c.needs(m.Name, at.Child("name"))
	c.fileMode(m.DefaultMode, at.Child("defaultMode"))
	c.user(m.DefaultUser, at.Child("defaultUser"))
	c.keysToPaths(m.Items, at.Child("items"), nil)
}

// keysToPaths judges the items of a config map or secret in a volume; each, if not nil, is told the path of each.
func (c *checker) keysToPaths(items []corev1.KeyToPath, at *field.Path, each func(path string)) {
	for i := range items {
		item, here := &items[i], at.Index(i)
		c.needs(item.Key, here.Child("key"))
		c.needs(item.Path, here.Child("path"))
		pathInVolume(&c.List, item.Path, here.Child("path"))
		c.fileMode(item.Mode, here.Child("mode"))
		c.user(item.User, here.Child("user"))
		if each != nil && item.Path != "" {
			each(item.Path)
		}
	}
}

func (c *checker) downwardVolume(d *corev1.DownwardAPIVolumeSource, at *field.Path) {
	c.fileMode(d.DefaultMode, at.Child("defaultMode"))
	c.user(d.DefaultUser, at.Child("defaultUser"))
	for i := range d.Items {
		c.downwardFile(&d.Items[i], at)
	}
}

// downwardFile judges a file of the downward API. Its place in the list is not told, as in Kubernetes.
func (c *checker) downwardFile(f *corev1.DownwardAPIVolumeFile, at *field.Path) {
	c.needs(f.Path, at.Child("path"))
	pathInVolume(&c.List, f.Path, at.Child("path"))
	switch {
	case f.FieldRef != nil:
		c.fieldRef(f.FieldRef, volumeFields, at.Child("fieldRef"))
		if f.ResourceFieldRef != nil {
			c.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
		}
	case f.ResourceFieldRef != nil:
		c.resourceFieldRef(f.ResourceFieldRef, at.Child("resourceFieldRef"), true)
	default:
		c.Required(at, "one of fieldRef and resourceFieldRef is required")
	}
	c.fileMode(f.Mode, at.Child("mode"))
	c.user(f.User, at.Child("user"))
}

func (c *checker) csi(s *corev1.CSIVolumeSource, at *field.Path) {
	c.csiDriver(s.Driver, at.Child("driver"))
	if ref := s.NodePublishSecretRef; ref != nil {
		if ref.Name == "" {
			c.Required(at.Child("nodePublishSecretRef", "name"), "")
		} else {
			c.InvalidEach(at.Child("name"), ref.Name, apivalidation.NameIsDNSSubdomain(ref.Name, false))
		}
	}
}

func (c *checker) csiDriver(name string, at *field.Path) {
	if name == "" {
		c.Required(at, "")
		return
	}
	if len(name) > 63 {
		c.TooLong(at, 63)
	}
	c.InvalidEach(at, name, apivalidation.NameIsDNSSubdomain(strings.ToLower(name), false))
}

func (c *checker) ephemeralVolume(name string, e *corev1.EphemeralVolumeSource, at *field.Path) {
	template := at.Child("ephemeral", "volumeClaimTemplate")
	if e.VolumeClaimTemplate == nil {
		c.Required(template, "")
	} else {
		c.claimTemplate(e.VolumeClaimTemplate, template)
	}
	if claim := c.claimName(name); claim != "" && name != "" {
		for _, msg := range apivalidation.NameIsDNSSubdomain(claim, false) {
			c.Invalid(at.Child("name"), name, fmt.Sprintf("PVC name %q: %v", claim, msg))
		}
	}
}

func (c *checker) imageVolume(i *corev1.ImageVolumeSource, at *field.Path) {
	if !c.lenient.emptyImage {
		c.needs(i.Reference, at.Child("reference"))
	}
	c.pullPolicy(i.PullPolicy, at.Child("pullPolicy"))
}

// needs wants a text not to be empty.
func (c *checker) needs(value string, at *field.Path) {
	if value == "" {
		c.Required(at, "")
	}
}

func (c *checker) fileMode(mode *int32, at *field.Path) {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		c.Invalid(at, *mode, fileModeRule)
	}
}

// relativePath wants a path below a folder: not absolute, and no way up.
func relativePath(l *fielderrors.List, value string, at *field.Path) {
	if path.IsAbs(value) {
		l.Invalid(at, value, "must be a relative path")
	}
	noBacksteps(l, value, at)
}

// pathInVolume is relativePath for the name of a file in a volume, where names that begin with two dots are
// the volume's own.
func pathInVolume(l *fielderrors.List, value string, at *field.Path) {
	relativePath(l, value, at)
	if strings.HasPrefix(value, "..") && !strings.HasPrefix(value, "../") {
		l.Invalid(at, value, "must not start with '..'")
	}
}

func noBacksteps(l *fielderrors.List, value string, at *field.Path) {
	for part := range strings.SplitSeq(value, "/") {
		if part == ".." {
			l.Invalid(at, value, "must not contain '..'")
			return
		}
	}
}
