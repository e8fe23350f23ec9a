package app

import (
	"flag"
	"fmt"
	"io"
	"strconv"

	"k8s.io/klog/v2"
)

// setKlog sends the logs of all parts, which log with klog, to w.
func setKlog(w io.Writer, verbosity int) error {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"logtostderr": "false", "alsologtostderr": "false", "stderrthreshold": "FATAL", "one_output": "true", "v": strconv.Itoa(verbosity)} {
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("set up the log: %w", err)
		}
	}
	klog.SetOutput(w)
	return nil
}
