// Package logread reads the log of a container as CRI's runtimes write it, to its end or on and on. It follows a log
// over its rotations: every line comes once, in order, as long as the file that it is in is kept.
package logread

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"k8s.io/klog/v2"

	"podium.dev/podium/internal/util/inotify"
)

// Options choose a part of a log; they are those of v1.PodLogOptions.
type Options struct {
	// TailLines is how many entries from the end of the newest file are read first; nil for all of it.
	TailLines *int64
	// LimitBytes ends the reading after so many bytes; nil for no limit.
	LimitBytes *int64
	// Since leaves out what is older.
	Since time.Time
	// Timestamps begins every line with its time.
	Timestamps bool
	// Stdout and Stderr choose the streams.
	Stdout, Stderr bool
}

// outBuffer is how much is gathered before it is sent: a client gets it when there is no more for now, not line by line,
// so that one who follows a flood keeps up with it.
const outBuffer = 32 << 10

// Read writes the log at path to out. With ended it follows the log until ended is closed, which is to happen once
// the container does not run any more and all that it wrote is in the log, and then to the end; otherwise
// (nil) until the end that the log has now.
func Read(ctx context.Context, path string, o Options, ended <-chan struct{}, out io.Writer) error {
	buffered := bufio.NewWriterSize(out, outBuffer)
	r := &reader{
		ctx: ctx, chain: chain{path: path}, ended: ended, out: buffered,
		entries: entryWriter{o: o, out: buffered, left: -1},
	}
	if o.LimitBytes != nil {
		r.entries.left = *o.LimitBytes
	}
	defer r.chain.close()
	err := r.read(o)
	if errors.Is(err, errLimit) {
		err = nil
	}
	return errors.Join(err, buffered.Flush())
}

// reader is one Read.
type reader struct {
	ctx     context.Context
	chain   chain
	entries entryWriter
	out     *bufio.Writer
	ended   <-chan struct{} // nil: do not follow
	changed <-chan []inotify.Change
}

func (r *reader) read(o Options) error {
	if err := r.chain.openNewest(o.TailLines); err != nil {
		return err
	}
	if r.ended == nil {
		most := int64(-1)
		if o.TailLines != nil {
			most = *o.TailLines // not what came since its end was found
		}
		return r.toEnd(most)
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	if err := r.watch(ctx); err != nil {
		return err
	}
	for over := false; ; {
		if err := r.toEnd(-1); err != nil {
			return err
		}
		moved, err := r.chain.next()
		switch {
		case err != nil:
			return err
		case moved:
		case over:
			return r.rest()
		default:
			if over, err = r.wait(); err != nil {
				return err
			}
		}
	}
}

// toEnd writes the entries up to the end of the file, but no more than most (negative for all).
func (r *reader) toEnd(most int64) error {
	for ; most != 0; most-- {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		entry, err := r.chain.entry()
		if errors.Is(err, io.EOF) {
			if r.ended == nil {
				return r.rest()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if err := r.write(entry); err != nil {
			return err
		}
	}
	return nil
}

// rest writes a last entry that has no end: its writer was killed.
func (r *reader) rest() error {
	if len(r.chain.half) == 0 {
		return nil
	}
	return r.write(r.chain.half)
}

// write leaves out what is no entry, as the kubelet does.
func (r *reader) write(entry []byte) error {
	e, err := parse(entry)
	if err != nil {
		klog.FromContext(r.ctx).V(2).Info("Failed to parse an entry of a log", "path", r.chain.path, "err", err)
		return nil
	}
	return r.entries.write(e)
}

// watch has the kernel tell of changes to the files of the log.
func (r *reader) watch(ctx context.Context) error {
	w, err := inotify.New()
	if err != nil {
		return err
	}
	r.changed = w.Changes(ctx, func(err error) {
		klog.FromContext(ctx).Error(err, "Failed to watch a log", "path", r.chain.path)
	})
	_, err = w.Follow(filepath.Dir(r.chain.path))
	return err
}

// wait sends what there is and waits until there may be more, or the container has ended.
func (r *reader) wait() (over bool, err error) {
	if err := r.out.Flush(); err != nil {
		return false, err
	}
	select {
	case <-r.changed:
		return false, nil
	case <-r.ended:
		return true, nil
	case <-r.ctx.Done():
		return false, r.ctx.Err()
	}
}
