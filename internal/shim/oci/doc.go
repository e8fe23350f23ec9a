// Package oci is the short-lived process that makes a container, or starts a process in one, with libcontainer. The
// Pod's shim starts it, hands it one request, and is left with the new process as its own child: what libcontainer
// needs in memory is gone when the container runs.
//
// libcontainer runs its own executable again, as "init", inside the new namespaces; the C constructor of package
// nsenter does that before Go starts. So this package is linked into a binary of its own that has nothing else to
// initialise.
package oci
