package first

// entry is where the kernel begins when the linker is told so (-E
// gantry/cmd/grun/first.entry): it does with five system calls what selfexe.Ensure does,
// before there is a Go runtime, whose coming up takes longer than all that. What it can't
// do, for want of privileges or because of an unusual environment, it leaves to Ensure;
// whether the second run is protected is for Ensure to find out.
//
//lint:ignore U1000 the linker's flag names it
func entry()
