package podspec

import (
	"net"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// The volume types that came before CSI. Most have no driver any more, but a Pod that names one is still
// judged as ever.

func (c *checker) gitRepo(g *corev1.GitRepoVolumeSource, at *field.Path) {
	c.needs(g.Repository, at.Child("repository"))
	relativePath(&c.List, g.Directory, at.Child("directory"))
}

func (c *checker) gceDisk(d *corev1.GCEPersistentDiskVolumeSource, at *field.Path) {
	c.needs(d.PDName, at.Child("pdName"))
	c.inByte(d.Partition, 1, at.Child("partition"))
}

func (c *checker) awsDisk(d *corev1.AWSElasticBlockStoreVolumeSource, at *field.Path) {
	c.needs(d.VolumeID, at.Child("volumeID"))
	c.inByte(d.Partition, 1, at.Child("partition"))
}

// inByte wants a number from 0 to 255; low is the lower end that the message names.
func (c *checker) inByte(n int32, low int, at *field.Path) {
	if n < 0 || n > 255 {
		c.Invalid(at, n, validation.InclusiveRangeError(low, 255))
	}
}

func (c *checker) nfs(n *corev1.NFSVolumeSource, at *field.Path) {
	c.needs(n.Server, at.Child("server"))
	c.needs(n.Path, at.Child("path"))
	if !path.IsAbs(n.Path) {
		c.Invalid(at.Child("path"), n.Path, "must be an absolute path")
	}
}

// iscsiNames are the forms of an iSCSI qualified name by the three letters it begins with.
var iscsiNames = map[string]*regexp.Regexp{
	"iqn": regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`),
	"eui": regexp.MustCompile(`^eui.[[:alnum:]]{16}$`),
	"naa": regexp.MustCompile(`^naa.[[:alnum:]]{32}$`),
}

func (c *checker) iscsi(i *corev1.ISCSIVolumeSource, at *field.Path) {
	c.needs(i.TargetPortal, at.Child("targetPortal"))
	if i.IQN == "" {
		c.Required(at.Child("iqn"), "")
	} else {
		c.iscsiName(i.IQN, at.Child("iqn"))
	}
	c.inByte(i.Lun, 0, at.Child("lun"))
	if (i.DiscoveryCHAPAuth || i.SessionCHAPAuth) && i.SecretRef == nil {
		c.Required(at.Child("secretRef"), "")
	}
	if i.InitiatorName != nil {
		c.iscsiName(*i.InitiatorName, at.Child("initiatorname"))
	}
}

func (c *checker) iscsiName(name string, at *field.Path) {
	form := iscsiNames[name[:min(3, len(name))]]
	switch {
	case form == nil:
		c.Invalid(at, name, "must be valid format starting with iqn, eui, or naa")
	case !form.MatchString(name):
		c.Invalid(at, name, "must be valid format")
	}
}

func (c *checker) iscsiNameLength(volume string, i *corev1.ISCSIVolumeSource, at *field.Path) {
	if i.InitiatorName != nil && len(volume+":"+i.TargetPortal) > 64 {
		c.Invalid(at, volume, "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.")
	}
}

func (c *checker) glusterfs(g *corev1.GlusterfsVolumeSource, at *field.Path) {
	c.needs(g.EndpointsName, at.Child("endpoints"))
	c.needs(g.Path, at.Child("path"))
}

func (c *checker) flocker(f *corev1.FlockerVolumeSource, at *field.Path) {
	switch {
	case f.DatasetName == "" && f.DatasetUUID == "":
		c.Required(at, "one of datasetName and datasetUUID is required")
	case f.DatasetName != "" && f.DatasetUUID != "":
		c.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously")
	}
	if strings.Contains(f.DatasetName, "/") {
		c.Invalid(at.Child("datasetName"), f.DatasetName, "must not contain '/'")
	}
}

func (c *checker) rbd(r *corev1.RBDVolumeSource, at *field.Path) {
	if len(r.CephMonitors) == 0 {
		c.Required(at.Child("monitors"), "")
	}
	c.needs(r.RBDImage, at.Child("image"))
}

func (c *checker) cephFS(f *corev1.CephFSVolumeSource, at *field.Path) {
	if len(f.Monitors) == 0 {
		c.Required(at.Child("monitors"), "")
	}
}

func (c *checker) cinder(d *corev1.CinderVolumeSource, at *field.Path) {
	c.needs(d.VolumeID, at.Child("volumeID"))
	c.secretRef(d.SecretRef, at)
}

func (c *checker) secretRef(ref *corev1.LocalObjectReference, at *field.Path) {
	if ref != nil {
		c.needs(ref.Name, at.Child("secretRef", "name"))
	}
}

func (c *checker) quobyte(q *corev1.QuobyteVolumeSource, at *field.Path) {
	const registries = "must be a host:port pair or multiple pairs separated by commas"
	switch {
	case q.Registry == "":
		c.Required(at.Child("registry"), registries)
	case len(q.Tenant) >= 65:
		c.Required(at.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters")
	default:
		for pair := range strings.SplitSeq(q.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				c.Invalid(at.Child("registry"), q.Registry, registries)
			}
		}
	}
	c.needs(q.Volume, at.Child("volume"))
}

func (c *checker) fibreChannel(f *corev1.FCVolumeSource, at *field.Path) {
	names := at.Child("targetWWNs")
	switch {
	case len(f.TargetWWNs) == 0 && len(f.WWIDs) == 0:
		c.Required(names, "must specify either targetWWNs or wwids, but not both")
	case len(f.TargetWWNs) != 0 && len(f.WWIDs) != 0:
		c.Invalid(names, f.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously")
	}
	if len(f.TargetWWNs) == 0 {
		return
	}
	if f.Lun == nil {
		c.Required(at.Child("lun"), "lun is required if targetWWNs is specified")
	} else {
		c.inByte(*f.Lun, 0, at.Child("lun"))
	}
}

func (c *checker) flexVolume(f *corev1.FlexVolumeSource, at *field.Path) {
	c.needs(f.Driver, at.Child("driver"))
	for _, key := range fielderrors.Keys(f.Options) {
		domain, _, _ := strings.Cut(key, "/")
		domain = "." + strings.ToLower(domain)
		if strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
			c.Invalid(at.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved")
		}
	}
}

func (c *checker) azureFile(f *corev1.AzureFileVolumeSource, at *field.Path) {
	c.needs(f.SecretName, at.Child("secretName"))
	c.needs(f.ShareName, at.Child("shareName"))
}

func (c *checker) azureDisk(d *corev1.AzureDiskVolumeSource, at *field.Path) {
	c.needs(d.DiskName, at.Child("diskName"))
	c.needs(d.DataDiskURI, at.Child("diskURI"))
	if d.CachingMode != nil {
		fielderrors.OneOf(&c.List, at.Child("cachingMode"), *d.CachingMode,
			corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)
	}
	if d.Kind == nil {
		return
	}
	fielderrors.OneOf(&c.List, at.Child("kind"), *d.Kind, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk)
	begin, form := "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	if *d.Kind == corev1.AzureManagedDisk {
		begin, form = "/subscriptions/", "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
	}
	if !strings.HasPrefix(d.DataDiskURI, begin) {
		c.Add(field.NotSupported(at.Child("diskURI"), d.DataDiskURI, []string{form}))
	}
}

func (c *checker) storageOS(s *corev1.StorageOSVolumeSource, at *field.Path) {
	if s.VolumeName == "" {
		c.Required(at.Child("volumeName"), "")
	} else {
		c.dnsLabel(s.VolumeName, at.Child("volumeName"))
	}
	if s.VolumeNamespace != "" {
		c.dnsLabel(s.VolumeNamespace, at.Child("volumeNamespace"))
	}
	c.secretRef(s.SecretRef, at)
}

func (c *checker) scaleIO(s *corev1.ScaleIOVolumeSource, at *field.Path) {
	c.needs(s.Gateway, at.Child("gateway"))
	c.needs(s.System, at.Child("system"))
	c.needs(s.VolumeName, at.Child("volumeName"))
}
