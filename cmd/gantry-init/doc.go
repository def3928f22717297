// Command gantry-init is the small first process of a container started with --init.
package main
