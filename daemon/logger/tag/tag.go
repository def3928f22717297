// Package tag fills in the templates of a log's tag, as Docker has them. Whoever creates a
// container writes the template, so it costs a bounded amount of time and memory: what a
// function gives is no longer than a tag may be, and what repeats itself is refused, but
// for a range over one of the container's own lists.
package tag

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// maxLength bounds a template, what a function gives, and a tag, in bytes: it goes with
// every entry of a log.
const maxLength = 4 << 10

var errTooLong = errors.New("the tag is too long")

// Fill fills in a template with the fields and methods of a subject.
func Fill(text string, subject any) (string, error) {
	if len(text) > maxLength {
		return "", errTooLong
	}
	t, err := template.New("log-tag").Funcs(functions).Parse(text)
	if err != nil {
		return "", err
	}
	if t.Tree != nil {
		if err := check(t.Root, false); err != nil {
			return "", err
		}
	}
	b := limited{left: maxLength}
	if err := t.Execute(&b, subject); err != nil {
		return "", err
	}
	return b.text.String(), nil
}

// limited takes left bytes and then fails.
type limited struct {
	text strings.Builder
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errTooLong
	}
	return l.text.Write(p)
}

// lists are what a template may range over: each is as long as the request that it came
// with let it be.
var lists = []string{"Config", "ContainerArgs", "ContainerEnv", "ContainerLabels"}

// check refuses templates that may run for long: a range over a number or in another
// range, and those that call others.
func check(n parse.Node, repeated bool) error {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, c := range n.Nodes {
			if err := check(c, repeated); err != nil {
				return err
			}
		}
	case *parse.IfNode:
		return errors.Join(check(n.List, repeated), check(n.ElseList, repeated))
	case *parse.WithNode:
		return errors.Join(check(n.List, repeated), check(n.ElseList, repeated))
	case *parse.RangeNode:
		if repeated || !slices.Contains(lists, strings.TrimPrefix(ranged(n), ".")) {
			return fmt.Errorf("a tag cannot range over %.100s here", ranged(n))
		}
		return errors.Join(check(n.List, true), check(n.ElseList, repeated))
	case *parse.TemplateNode:
		return fmt.Errorf("a tag has no template %.100q", n.Name)
	}
	return nil
}

// ranged is what a range goes over, without the variables.
func ranged(n *parse.RangeNode) string {
	cmds := make([]string, len(n.Pipe.Cmds))
	for i, c := range n.Pipe.Cmds {
		cmds[i] = c.String()
	}
	return strings.Join(cmds, " | ")
}
