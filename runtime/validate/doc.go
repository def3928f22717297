// Package validate checks a runtime specification before any system call is
// made. It is pure: it looks at no file and asks no kernel, so what passes here
// can still be refused by the host.
//
// Errors are errdefs.ErrInvalidArgument. Their text names the field as the JSON
// has it, and every problem up to a bound:
//
//	process.cwd: "tmp" is not absolute; linux.namespaces[3].type: unknown namespace "nett"
//
// The rules are those of the runtime specification 1.3, and runc's where that
// leaves room.
package validate
