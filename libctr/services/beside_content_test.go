package services_test

import (
	"strings"
	"testing"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// write is one message of a Content.Write stream.
type write = contentapi.WriteContentRequest

const (
	statAction   = contentapi.WriteAction_STAT
	writeAction  = contentapi.WriteAction_WRITE
	commitAction = contentapi.WriteAction_COMMIT
)

func ingest(name string, msgs ...*write) step {
	s := step{name: name, method: "content/Write"}
	for _, m := range msgs {
		s.req = append(s.req, m)
	}
	return s
}

func TestBesideContent(t *testing.T) {
	hello, other := []byte("hello world"), []byte("something else")
	dgst, otherDgst := digest.FromBytes(hello).String(), digest.FromBytes(other).String()
	empty := digest.FromBytes(nil).String()
	info := func(d string) step {
		return step{name: d, method: "content/Info", req: one(&contentapi.InfoRequest{Digest: d})}
	}
	update := func(name string, i *contentapi.Info, paths ...string) step {
		r := &contentapi.UpdateRequest{Info: i}
		if paths != nil {
			r.UpdateMask = mask(paths...)
		}
		return step{name: name, method: "content/Update", req: []proto.Message{r}}
	}
	list := func(filters ...string) step {
		return step{name: strings.Join(filters, " or "), method: "content/List", req: one(&contentapi.ListContentRequest{Filters: filters})}
	}
	remove := func(d string) step {
		return step{name: d, method: "content/Delete", req: one(&contentapi.DeleteContentRequest{Digest: d})}
	}
	read := func(d string, offset, size int64) step {
		return step{name: d, method: "content/Read", req: one(&contentapi.ReadContentRequest{Digest: d, Offset: offset, Size: size})}
	}
	status := func(ref string) step {
		return step{name: ref, method: "content/Status", req: one(&contentapi.StatusRequest{Ref: ref})}
	}
	statuses := func(filters ...string) step {
		return step{name: strings.Join(filters, " or "), method: "content/ListStatuses", req: one(&contentapi.ListStatusesRequest{Filters: filters})}
	}
	abort := func(ref string) step {
		return step{name: ref, method: "content/Abort", req: one(&contentapi.AbortRequest{Ref: ref})}
	}
	in := func(ns string, s step) step { s.in = ns; return s }
	under := func(lease string, s step) step { s.lease = lease; return s }
	ours := func(s step, want, why string) step { s.ours, s.why = want, why; return s }
	held := labels("containerd.io/gc.root=x") // for collectors that wake up between two steps
	unknown := "sha256:" + strings.Repeat("0", 64)
	sized := func(d string, size int64, msgs ...*write) []*write {
		msgs[0].Expected, msgs[0].Total = d, size
		return msgs
	}
	script := []step{
		info(unknown), info(""), info("sha256:1"), info("x"), list(), list("(("), statuses(), statuses("(("), status("none"), status(""), abort("none"), abort(""),
		remove(unknown), remove("x"), read(unknown, 0, 0), read("x", 0, 0), update("unknown", &contentapi.Info{Digest: unknown}, "labels"), update("bad digest", &contentapi.Info{Digest: "x"}),
		in("-", info(unknown)), in("-", list()), in("-", status("x")), in("-", statuses()), in("-", abort("x")), in("-", ingest("no namespace", &write{Action: statAction, Ref: "r"})),
		ingest("no ref", &write{Action: statAction}), ingest("only stat", &write{Action: statAction, Ref: "r"}), status("r"), statuses(), statuses("ref==r"), statuses("ref~=^q"), statuses("ref"), statuses("offset==0"), abort("r"), status("r"),
		ingest("part", &write{Action: statAction, Ref: "a", Total: 11, Expected: dgst}, &write{Action: writeAction, Data: hello[:5]}), status("a"), statuses(),
		ingest("resume, wrong offset", &write{Action: statAction, Ref: "a"}, &write{Action: writeAction, Offset: 4, Data: hello[4:]}), status("a"),
		ingest("resume, offset past the end", &write{Action: statAction, Ref: "a"}, &write{Action: writeAction, Offset: 6, Data: hello[6:]}),
		ours(ingest("negative offset", &write{Action: writeAction, Ref: "n", Offset: -1, Data: hello}),
			"OutOfRange: write @-1 must occur at current offset 0", "containerd takes it as any offset"), abort("n"),
		ingest("start over", &write{Action: writeAction, Ref: "a", Data: hello[:3]}, &write{Action: statAction}, &write{Action: writeAction, Offset: 3, Data: hello[3:6]}), status("a"),
		ingest("no data at 0 truncates", &write{Action: writeAction, Ref: "a"}), status("a"),
		ingest("fill", &write{Action: writeAction, Ref: "a", Data: hello[:6]}),
		ingest("wrong digest", &write{Action: commitAction, Ref: "a", Offset: 6, Data: hello[6:], Expected: otherDgst}), status("a"),
		ingest("fill again", &write{Action: writeAction, Ref: "a", Data: hello}),
		ingest("wrong total", &write{Action: commitAction, Ref: "a", Offset: 11, Total: 12, Expected: dgst}),
		ours(status("a"), `StatusResponse status:{started_at:{seconds:1} updated_at:{seconds:1} ref:"a" total:12}`, "containerd starts over at 0 and keeps what it had"),
		ingest("fill a third time", &write{Action: writeAction, Ref: "a", Data: hello}),
		ours(ingest("bad digest", &write{Action: commitAction, Ref: "a", Offset: 11, Expected: "sha256:1"}),
			`InvalidArgument: digest "sha256:1": invalid checksum digest length: invalid argument`, "none can have it"), status("a"),
		ingest("fill a fourth time", &write{Action: writeAction, Ref: "a", Data: hello}),
		ingest("large label", &write{Action: commitAction, Ref: "a", Offset: 11, Labels: map[string]string{"k": long}}), status("a"),
		ingest("commit", &write{Action: writeAction, Ref: "a", Data: hello}, &write{Action: commitAction, Offset: 11, Total: 11, Expected: dgst, Labels: labels("a=1", "e=", "containerd.io/gc.root=x")}), info(dgst), status("a"),
		ingest("exists at open", &write{Action: statAction, Ref: "b", Expected: dgst}), status("b"),
		ingest("exists at open, other size", &write{Action: statAction, Ref: "b", Expected: dgst, Total: 4}),
		ingest("exists, told at write", &write{Action: statAction, Ref: "b"}, &write{Action: writeAction, Data: hello, Expected: dgst}), status("b"),
		ingest("exists, told at commit", &write{Action: statAction, Ref: "b"}, &write{Action: writeAction, Data: hello}, &write{Action: commitAction, Offset: 11, Expected: dgst}), status("b"),
		ingest("exists, not told", &write{Action: statAction, Ref: "c"}, &write{Action: writeAction, Data: hello}, &write{Action: commitAction, Offset: 11}), status("c"), info(dgst),
		ingest("commit in one", &write{Action: commitAction, Ref: "d", Data: other, Labels: held}), info(otherDgst),
		ingest("empty blob", &write{Action: commitAction, Ref: "e", Expected: empty, Labels: held}), info(empty), read(empty, 0, 0), read(empty, 0, 5), read(empty, 1, 0),
		ours(ingest("unknown action", &write{Action: 7, Ref: "f"}), "InvalidArgument: write action 7 is not known", "containerd says yes and does nothing"), abort("f"),
		ingest("a total that shrinks", &write{Action: statAction, Ref: "g", Total: 100}, &write{Action: statAction, Total: 50}, &write{Action: statAction}), status("g"), abort("g"),
		ours(ingest("negative total", &write{Action: statAction, Ref: "m", Total: -4}), `InvalidArgument: ingest "beside/m": size -4 is negative`, "no size is"),
		ours(ingest("total too small", &write{Action: commitAction, Ref: "o", Total: 3, Data: hello[1:]}),
			`FailedPrecondition: ingest "beside/o": 10 bytes are more than the 3 announced`, "nothing is written past the total"), abort("o"),
		ingest("ref of another message", &write{Action: statAction, Ref: "i"}, &write{Action: statAction, Ref: "j"}), statuses("ref==j"), abort("i"),
		ingest("odd ref", &write{Action: statAction, Ref: "a b/../ü\x01"}), status("a b/../ü\x01"), abort("a b/../ü\x01"),
		read(dgst, 0, 0), read(dgst, 3, 4), read(dgst, 6, 100), read(dgst, 11, 0), read(dgst, 11, 5), read(dgst, 12, 0), read(dgst, -3, 2), read(dgst, 2, -1),
		update("labels", &contentapi.Info{Digest: dgst, Size: 1, Labels: labels("x=1", "y=", "containerd.io/gc.root=x")}, "labels"),
		update("a label", &contentapi.Info{Digest: dgst, Labels: labels("p.q=1", "r=2")}, "labels.p.q"), update("label away", &contentapi.Info{Digest: dgst}, "labels.x"),
		update("size", &contentapi.Info{Digest: dgst, Size: 4}, "size"), update("nothing", &contentapi.Info{Digest: dgst, Labels: labels("n=1", "containerd.io/gc.root=x")}),
		update("large", &contentapi.Info{Digest: dgst, Labels: map[string]string{"k": long}}), info(dgst),
		list(), list("digest==" + dgst), list("size==11"), list("size==14", "labels.n"), list("labels.n==1"), list("labels.nope"), list("digest"), list("size"), list("nope"), list("digest~=("),
		// Another namespace: shared is what is told, not what is there.
		in("other", info(dgst)), in("other", list()), in("other", read(dgst, 0, 0)), in("other", remove(dgst)), in("other", update("unknown", &contentapi.Info{Digest: dgst}, "labels")),
		in("other", ingest("not shared by offset", &write{Action: statAction, Ref: "s"}, &write{Action: writeAction, Data: hello}, &write{Action: commitAction, Offset: 11, Total: 11, Labels: held})), in("other", info(dgst)),
		in("third", ingest("wrong size is not shared", sized(otherDgst, 5, &write{Action: statAction, Ref: "s"})...)), in("third", abort("s")),
		remove(dgst), info(dgst), remove(dgst), in("other", info(dgst)), in("other", remove(dgst)),
		// Leases.
		under("none", ingest("no lease", &write{Action: statAction, Ref: "l"})), under("none", info(otherDgst)), ours(under("none", ingest("no lease, exists", &write{Action: statAction, Ref: "l", Expected: otherDgst})), "NotFound: lease does not exist: not found", "one look for both"),
		{name: "lease", method: "leases/Create", req: one(&leasesapi.CreateRequest{ID: "lease"})},
		under("lease", ingest("leased", &write{Action: commitAction, Ref: "l", Data: hello})),
		{name: "leased", method: "leases/ListResources", req: one(&leasesapi.ListResourcesRequest{ID: "lease"})},
		under("lease", ingest("leased by asking", &write{Action: statAction, Ref: "l", Expected: otherDgst})),
		{name: "leased", method: "leases/ListResources", req: one(&leasesapi.ListResourcesRequest{ID: "lease"})},
		remove(otherDgst), under("lease", remove(dgst)),
	}
	beside(t, script)
}

// TestBesideShared: a namespace that shares lets others have its blobs by their digest.
func TestBesideShared(t *testing.T) {
	hello := []byte("hello world")
	dgst := digest.FromBytes(hello).String()
	in := func(ns string, s step) step { s.in = ns; return s }
	info := step{name: "info", method: "content/Info", req: one(&contentapi.InfoRequest{Digest: dgst})}
	beside(t, []step{
		{name: "share", method: "namespaces/Create", req: one(&namespacesapi.CreateNamespaceRequest{Namespace: &namespacesapi.Namespace{
			Name: "shares", Labels: labels("containerd.io/namespace.shareable=true")}})},
		in("shares", ingest("write", &write{Action: commitAction, Ref: "r", Data: hello, Labels: labels("containerd.io/gc.root=x")})),
		in("takes", ingest("open", &write{Action: statAction, Ref: "r", Expected: dgst, Total: 11})), in("takes", info),
		in("takes", ingest("commit", &write{Action: statAction, Ref: "r", Expected: dgst, Total: 11}, &write{Action: commitAction, Offset: 11, Total: 11, Labels: labels("a=1", "containerd.io/gc.root=x")})), in("takes", info),
	})
}

// TestBesideSHA512: a blob may have a digest of another kind.
func TestBesideSHA512(t *testing.T) {
	hello := []byte("hello world")
	dgst := digest.SHA512.FromBytes(hello).String()
	write := ingest("commit", &write{Action: commitAction, Ref: "r", Data: hello, Expected: dgst})
	write.want = `WriteContentResponse action:COMMIT offset:11 digest:"` + dgst + `"`
	status := step{name: "after", method: "content/Status", req: one(&contentapi.StatusRequest{Ref: "r"})}
	status.want = `NotFound: could not get status for ref "r": reference r: not found`
	beside(t, []step{write, status})
}
