package image

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/filters"
	timetypes "github.com/docker/docker/api/types/time"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/image"
	coremanifest "gantry/libctr/core/manifest"
)

var (
	listFilters = map[string]bool{
		"dangling": true, "label": true, "label!": true, "before": true,
		"since": true, "reference": true, "until": true,
	}
	pruneFilters = map[string]bool{"dangling": true, "label": true, "label!": true, "until": true}
)

type keepFunc func(image.Image) bool

// filter turns the filters of a request into one function. InvalidArgument for a
// filter that is not accepted or has a bad value.
func (s *Service) filter(ctx context.Context, args filters.Args, accepted map[string]bool) (keepFunc, error) {
	if err := args.Validate(accepted); err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	var all []keepFunc
	for _, makeFilters := range []func(context.Context, filters.Args) ([]keepFunc, error){
		s.createdFilters, untilFilters, s.labelFilters, danglingFilter, referenceFilter,
	} {
		fs, err := makeFilters(ctx, args)
		if err != nil {
			return nil, err
		}
		all = append(all, fs...)
	}
	return func(img image.Image) bool {
		for _, keep := range all {
			if !keep(img) {
				return false
			}
		}
		return true
	}, nil
}

// createdFilters are before and since, which name another image.
func (s *Service) createdFilters(ctx context.Context, args filters.Args) ([]keepFunc, error) {
	var out []keepFunc
	add := func(key string, cmp func(a, b time.Time) bool) error {
		return args.WalkValues(key, func(ref string) error {
			other, err := s.Resolve(ctx, ref, nil)
			if err != nil || other.Config.Created == nil {
				return err
			}
			out = append(out, func(img image.Image) bool {
				m, err := s.best(ctx, img, nil)
				return err == nil && m.config.Created != nil && cmp(*m.config.Created, *other.Config.Created)
			})
			return nil
		})
	}
	if err := add("before", time.Time.Before); err != nil {
		return nil, err
	}
	return out, add("since", time.Time.After)
}

// untilFilters keep records made before a time: RFC 3339, Unix seconds or a duration ago.
func untilFilters(_ context.Context, args filters.Args) (out []keepFunc, err error) {
	err = args.WalkValues("until", func(value string) error {
		ts, err := timetypes.GetTimestamp(value, time.Now())
		if err != nil {
			return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
		}
		sec, nsec, err := timetypes.ParseTimestamps(ts, 0)
		if err != nil {
			return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
		}
		until := time.Unix(sec, nsec)
		out = append(out, func(img image.Image) bool { return img.CreatedAt.Before(until) })
		return nil
	})
	return out, err
}

func danglingFilter(_ context.Context, args filters.Args) ([]keepFunc, error) {
	if !args.Contains("dangling") {
		return nil, nil
	}
	want, err := args.GetBoolOrDefault("dangling", false)
	if err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	return []keepFunc{func(img image.Image) bool { return isDangling(img) == want }}, nil
}

// referenceFilter matches Docker's patterns (path.Match on the familiar name).
func referenceFilter(_ context.Context, args filters.Args) ([]keepFunc, error) {
	patterns := args.Get("reference")
	if len(patterns) == 0 {
		return nil, nil
	}
	return []keepFunc{func(img image.Image) bool {
		ref, err := reference.ParseNormalizedNamed(img.Name)
		if err != nil {
			return false
		}
		for _, p := range patterns {
			if ok, err := reference.FamiliarMatch(p, ref); err == nil && ok {
				return true
			}
		}
		return false
	}}, nil
}

// labelRule is one label filter: key or key=value, negated by "label!" or "key!=value".
type labelRule struct {
	key, value string
	valued     bool
	negate     bool
}

func parseLabelRule(arg string, negate bool) (labelRule, error) {
	k, v, valued := strings.Cut(arg, "=")
	if len(k)+len(v) > 4096 {
		return labelRule{}, errdefs.InvalidArgument("label key and value length (%d bytes) greater than maximum size (4096 bytes), key: %s", len(k)+len(v), k[:min(len(k), 64)])
	}
	if key, ok := strings.CutSuffix(k, "!"); ok {
		k, negate = key, !negate
	}
	return labelRule{key: k, value: v, valued: valued, negate: negate}, nil
}

// match follows dockerd's containerd store: a negated value asks for the label with
// another value, not for its absence.
func (r labelRule) match(labels map[string]string) bool {
	value, ok := labels[r.key]
	if !r.valued {
		return ok != r.negate
	}
	return ok && (value == r.value) != r.negate
}

// labelFilters keep images of which any platform that is here has matching labels.
func (s *Service) labelFilters(ctx context.Context, args filters.Args) ([]keepFunc, error) {
	var rules []labelRule
	for _, key := range []string{"label", "label!"} {
		for _, arg := range args.Get(key) {
			r, err := parseLabelRule(arg, key == "label!")
			if err != nil {
				return nil, err
			}
			rules = append(rules, r)
		}
	}
	if len(rules) == 0 {
		return nil, nil
	}
	return []keepFunc{func(img image.Image) bool {
		found := false
		err := s.walk(ctx, img.Target, func(d ocispec.Descriptor) error {
			if !coremanifest.IsImageConfig(d.MediaType) {
				return nil
			}
			if ok, err := s.labelsMatch(ctx, d, rules); err != nil || !ok {
				return err
			}
			found = true
			return errStop
		})
		if err != nil {
			s.log.WarnContext(ctx, "filter by label", "image", img.Name, "err", err)
		}
		return found
	}}, nil
}

func (s *Service) labelsMatch(ctx context.Context, config ocispec.Descriptor, rules []labelRule) (bool, error) {
	var c struct {
		Config struct{ Labels map[string]string } `json:"config"`
	}
	if err := s.readJSON(ctx, config, &c); err != nil {
		if errdefs.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("read labels: %w", err)
	}
	for _, r := range rules {
		if !r.match(c.Config.Labels) {
			return false, nil
		}
	}
	return true, nil
}
