// Package worker runs the Pods of this node: one worker a Pod that observes it, has package pod say what to do
// next, and does it.
//
// A worker is one goroutine asleep on a channel. The API, the runtime, probes and timers wake it; it then looks
// at what is known, has the status and the plan made, writes the one and carries out the other. Whatever takes
// time is done by a goroutine of its own, whose answer wakes the worker again. Nothing is polled.
//
// The way up, one file a step, and what waits for what:
//
//	start_volumes.go    volumes ───────────┐
//	start_image.go      image ─────────────┤
//	start_sandbox.go    cgroup ─▶ sandbox ─┴─▶ start_container.go  config ─▶ create ─▶ start ─▶ start_hook.go  post-start
//
// and the way down:
//
//	stop_hook.go  pre-stop ─▶ stop_container.go  stop ─▶ stop_sandbox.go  sandbox ─▶ stop_teardown.go  volumes, forget ─▶ cgroup
//
// after which the final status is written and, for a deleted Pod, its object removed (report.go).
//
// # After the daemon was killed
//
//  1. The runtime's containers run on, and what it knows of them holds all that matters: which Pod they are of,
//     how often they were started, how long the next start must wait.
//  2. Whoever was killed may have been in the midst of any step, so every step can be done again: creates are
//     keyed by the Pod's UID and an attempt, removals take what is gone for removed.
//  3. The events of the runtime are followed before its containers are listed, so that none is missed between.
//  4. What the machine has of a Pod that no source knows is removed, once every source has spoken, and from then on
//     whenever something was heard of such a Pod or a Pod has gone (leftovers.go).
//  5. New Pods of the API are admitted when the API has said which Pods were there before (room.go).
package worker
