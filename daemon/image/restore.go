package image

import (
	"context"
	"fmt"
	"strings"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
)

// extractPrefix begins the names of snapshots that layers are being unpacked in;
// containerd's clients call them so, too.
const extractPrefix = "extract-"

// oncePrefix begins the names of ingests that no later one goes on with.
const oncePrefix = "once-"

// Restore takes away what an earlier run was at when it ended; it is called once, before
// the first request. What an interrupted pull has fetched is kept for its next try.
// Failures are logged: what stays expires.
func (s *Service) Restore(ctx context.Context) {
	leases, err := s.Leases.List(ctx, fmt.Sprintf("labels.%q", labelPrunable))
	if err != nil {
		s.log.WarnContext(ctx, "list leases of an earlier run", "err", err)
	}
	for _, l := range leases {
		if s.held.running(l.ID) {
			continue
		}
		s.dropExtracts(ctx, l.ID)
		failpoint.Hit("daemon/image.restore.extracts")
		if l.Labels[labelResumable] == "" {
			s.dropLease(ctx, l.ID)
			failpoint.Hit("daemon/image.restore.lease")
		}
	}
	ingests, err := s.Content.ListStatuses(ctx)
	if err != nil {
		s.log.WarnContext(ctx, "list ingests of an earlier run", "err", err)
	}
	for _, i := range ingests {
		if strings.HasPrefix(i.Ref, oncePrefix) {
			s.abort(ctx, i.Ref)
		}
	}
}

// dropExtracts removes the snapshots that an interrupted unpacking has left under a lease.
func (s *Service) dropExtracts(ctx context.Context, leaseID string) {
	held, err := s.Leases.ListResources(ctx, leaseID)
	if err != nil && !errdefs.IsNotFound(err) {
		s.log.WarnContext(ctx, "list what a lease holds", "lease", leaseID, "err", err)
	}
	for _, r := range held {
		if r.Type == s.snapshotType() && strings.HasPrefix(r.ID, extractPrefix) {
			s.dropSnapshot(ctx, r.ID)
		}
	}
}
