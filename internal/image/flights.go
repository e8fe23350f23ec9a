package image

import (
	"context"
	"sync"
)

// flights are the transfers under way, by what is transferred and for whom.
type flights struct {
	mu  sync.Mutex
	all map[string]*flight
}

// starter runs a function in the background, under a context of its own.
type starter func(func(context.Context))

// flight is one transfer and those who wait for it.
type flight struct {
	done chan struct{} // closed when it came to its end
	over chan struct{} // closed when nobody waits for it any more
	img  Image
	err  error

	mu        sync.Mutex
	waiting   int
	listeners map[int]func(Progress)
	next      int
}

// join waits for the transfer of that key, which it starts if there is none. The transfer does not run under any
// caller's context; it ends early when the last caller's context does.
func (f *flights) join(ctx context.Context, start starter, key string, progress func(Progress), run func(context.Context, func(Progress)) (Image, error)) (Image, error) {
	f.mu.Lock()
	fl := f.all[key]
	if fl == nil {
		fl = &flight{done: make(chan struct{}), over: make(chan struct{}), listeners: map[int]func(Progress){}}
		if f.all == nil {
			f.all = map[string]*flight{}
		}
		f.all[key] = fl
		start(func(ctx context.Context) { f.fly(ctx, key, fl, run) })
	}
	leave := fl.listen(progress)
	f.mu.Unlock()
	select {
	case <-fl.done:
		leave()
		return fl.img, fl.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	last := leave()
	if last {
		f.forgetLocked(key, fl)
		close(fl.over)
	}
	f.mu.Unlock()
	if last {
		<-fl.done
	}
	return Image{}, ctx.Err()
}

func (f *flights) fly(ctx context.Context, key string, fl *flight, run func(context.Context, func(Progress)) (Image, error)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	landed := make(chan struct{})
	go func() {
		select {
		case <-fl.over:
			cancel()
		case <-landed:
		}
	}()
	fl.img, fl.err = run(ctx, fl.tell)
	close(landed)
	f.mu.Lock()
	f.forgetLocked(key, fl)
	f.mu.Unlock()
	close(fl.done)
}

// forgetLocked makes later callers start a transfer of their own. f.mu is held.
func (f *flights) forgetLocked(key string, fl *flight) {
	if f.all[key] == fl {
		delete(f.all, key)
	}
}

// listen joins a caller, who leaves by calling what it gets; that reports whether it was the last.
func (fl *flight) listen(progress func(Progress)) (leave func() (last bool)) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	id := fl.next
	fl.next++
	fl.waiting++
	if progress != nil {
		fl.listeners[id] = progress
	}
	return func() bool {
		fl.mu.Lock()
		defer fl.mu.Unlock()
		delete(fl.listeners, id)
		fl.waiting--
		return fl.waiting == 0
	}
}

func (fl *flight) tell(p Progress) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for _, l := range fl.listeners {
		l(p)
	}
}
