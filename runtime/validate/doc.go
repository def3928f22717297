// Package validate checks a runtime specification before any system call is made.
package validate
