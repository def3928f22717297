// Package checkpoint writes the processes of a container to files and brings them
// back, with CRIU (https://criu.org), the program: it needs criu in PATH, 3.0 or
// later.
//
// # How CRIU is asked
//
// "criu swrk" is started with a socket for its descriptor 3, over which go the
// messages of CRIU's own RPC:
//
//	us                                  criu swrk 3
//	request DUMP, RESTORE, … ─────────►
//	        ◄───────── NOTIFY script    before each step that concerns us
//	NOTIFY, done ─────────────────────►
//	        ◄───────── the request's type, success or not
//	(our end closes) ─────────────────► leaves
//
// A restored init is CRIU's sibling: our child.
//
// # What is not in a checkpoint
//
// What lies outside of the container is named at the dump and given again at the
// restore: bind mounts, masked files and, in a user namespace, devices by their
// place in the container; network and pid namespaces that were joined by path;
// pipes of stdio, whose kernel names are kept in the image directory's
// descriptors.json. The real paths of mounts, which a restore can't find when the root is
// mounted nowhere, are in mounts.json, a file of ours alone. All names are runc's, which
// can restore from our images.
//
// # A restore's mounts
//
// CRIU wants the container's root to be a mount point, and the places for mounts to
// be there. Places are made by the program that a start would run, up to its
// mounts; and CRIU runs in a mount namespace of its own that holds the root's mount,
// so that nothing is mounted on the host.
package checkpoint
