package rootfs

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseOptions(t *testing.T) {
	flags, data := parseOptions([]string{"ro", "nosuid", "lowerdir=/a:/b", "rbind", "index=off"})
	if flags != unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_BIND|unix.MS_REC || strings.Join(data, ",") != "lowerdir=/a:/b,index=off" {
		t.Errorf("flags %x, data %v", flags, data)
	}
}

func TestRelativeLayers(t *testing.T) {
	dir, data := relativeLayers([]string{"upperdir=/s/9/fs", "lowerdir=/s/1/fs:/s/22/fs", "workdir=/s/9/work"})
	if dir != "/s" || strings.Join(data, ",") != "upperdir=/s/9/fs,lowerdir=1/fs:22/fs,workdir=/s/9/work" {
		t.Errorf("from %s: %v", dir, data)
	}
	if got := commonDir([]string{"/a/b", "/c/d"}); got != "/" {
		t.Errorf("common folder = %s", got)
	}
}
