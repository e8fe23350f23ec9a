package store

import (
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
)

// logCore passes etcd's own log lines to klog, so that there is one log.
type logCore struct {
	zapcore.LevelEnabler
	fields []zapcore.Field
}

func newLogCore(level zapcore.Level) zapcore.Core { return &logCore{LevelEnabler: level} }

// With implements zapcore.Core.
func (c *logCore) With(fields []zapcore.Field) zapcore.Core {
	all := append(append([]zapcore.Field(nil), c.fields...), fields...)
	return &logCore{LevelEnabler: c.LevelEnabler, fields: all}
}

// Check implements zapcore.Core.
func (c *logCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core. Only what ends the process is logged as an error; everything else is logged at
// a higher verbosity, because etcd calls even its orderly shutdown an error and warns often on a slow disk.
func (c *logCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field(nil), c.fields...), fields...) {
		f.AddTo(enc)
	}
	kv := make([]any, 0, 2*len(enc.Fields))
	for k, v := range enc.Fields {
		kv = append(kv, k, v)
	}
	if e.Level >= zapcore.DPanicLevel {
		klog.ErrorS(nil, "etcd: "+e.Message, kv...)
	} else {
		klog.V(2).InfoS("etcd: "+e.Message, kv...)
	}
	return nil
}

// Sync implements zapcore.Core.
func (c *logCore) Sync() error { return nil }
