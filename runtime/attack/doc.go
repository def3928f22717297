// Package attack holds no code, only tests: each carries out what a public vulnerability
// of a container runtime let a container do, against grun and so against the library
// below it, and sees it fail. Each has a control beside it: the same attack on something
// unprotected succeeds, or the place that it depends on is seen to have been reached.
//
// A file is named after what is attacked; its comments say by number which
// vulnerabilities it is about and what went wrong there. docs/runtime.md has them in a
// table with what stops each.
package attack
