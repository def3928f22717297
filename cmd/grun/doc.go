// Command grun is the OCI runtime's command line.
package main
