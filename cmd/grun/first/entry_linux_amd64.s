#include "textflag.h"

// System calls and their flags.
#define SYS_execveat 322
#define SYS_open_tree 428
#define SYS_mount_setattr 442
#define AT_FDCWD -100
#define AT_EMPTY_PATH 0x1000
#define OPEN_TREE_CLONE_CLOEXEC 0x80001
#define MOUNT_ATTR_SIZE 32

DATA exe<>+0(SB)/8, $"/proc/se"
DATA exe<>+8(SB)/8, $"lf/exe\x00\x00"
GLOBL exe<>(SB), RODATA|NOPTR, $16

DATA empty<>+0(SB)/8, $0
GLOBL empty<>(SB), RODATA|NOPTR, $8

// struct mount_attr: MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID, nothing to clear, MS_PRIVATE.
DATA attr<>+0(SB)/8, $3
DATA attr<>+8(SB)/8, $0
DATA attr<>+16(SB)/8, $0x40000
DATA attr<>+24(SB)/8, $0
GLOBL attr<>(SB), RODATA|NOPTR, $32

DATA procs<>+0(SB)/8, $"GOMAXPRO"
DATA procs<>+8(SB)/8, $"CS=1\x00\x00\x00\x00"
GLOBL procs<>(SB), RODATA|NOPTR, $16

DATA gc<>+0(SB)/8, $"GOGC=off"
DATA gc<>+8(SB)/8, $0
GLOBL gc<>(SB), RODATA|NOPTR, $16

// Names as selfexe wants them.
DATA marker<>+0(SB)/8, $"_GANTRY_"
DATA marker<>+8(SB)/8, $"SELFEXE="
DATA marker<>+16(SB)/8, $"GOMAXPRO"
DATA marker<>+24(SB)/8, $"CS,GOGC\x00"
GLOBL marker<>(SB), RODATA|NOPTR, $32

// func entry()
//
// The stack, as the kernel leaves it: argc, argv, 0, envp, 0. Nothing above is changed,
// so that the Go runtime can always go on from here. The kernel puts more than eight
// bytes behind the last string, so that reading eight from any is within the stack.
//
//	R12 the stack   R13 argc   R14 argv   R15 envp   CX number of variables
TEXT ·entry(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVQ SP, R12
	MOVQ 0(R12), R13
	LEAQ 8(R12), R14
	LEAQ 8(R14)(R13*8), R15

	// Is one of the words a command that clones?
	MOVQ $1, BX
word:
	CMPQ BX, R13
	JGE  start
	MOVQ (R14)(BX*8), SI
	MOVL (SI), AX
	CMPL AX, $0x006e7572 // "run"
	JEQ  variables
	CMPL AX, $0x63657865 // "exec"
	JNE  create
	CMPB 4(SI), $0
	JEQ  variables
create:
	CMPL AX, $0x61657263 // "crea"
	JNE  next
	CMPL 3(SI), $0x00657461 // "ate"
	JEQ  variables
next:
	INCQ BX
	JMP  word

	// Count the variables. With a setting of the user's own, or ours, Go decides.
variables:
	XORQ CX, CX
	MOVQ procs<>(SB), R8
	MOVQ marker<>(SB), R9
variable:
	MOVQ (R15)(CX*8), SI
	TESTQ SI, SI
	JEQ  mount
	MOVQ (SI), AX
	CMPQ AX, R8 // "GOMAXPRO"
	JEQ  start
	CMPQ AX, R9 // "_GANTRY_"
	JEQ  start
	CMPL AX, $0x43474f47 // "GOGC"
	JEQ  start
	INCQ CX
	JMP  variable

	// A read-only mount of this file; see selfexe.
mount:
	MOVQ CX, BX // the kernel takes CX for itself
	MOVQ $AT_FDCWD, DI
	LEAQ exe<>(SB), SI
	MOVQ $OPEN_TREE_CLONE_CLOEXEC, DX
	MOVQ $SYS_open_tree, AX
	SYSCALL
	TESTQ AX, AX
	JLT  start
	MOVQ AX, BP
	MOVQ BP, DI
	LEAQ empty<>(SB), SI
	MOVQ $AT_EMPTY_PATH, DX
	LEAQ attr<>(SB), R10
	MOVQ $MOUNT_ATTR_SIZE, R8
	MOVQ $SYS_mount_setattr, AX
	SYSCALL
	TESTQ AX, AX
	JLT  undo

	// The variables and three of ours below the stack.
	LEAQ 4(BX), AX
	SHLQ $3, AX
	SUBQ AX, SP
	ANDQ $~15, SP
	XORQ CX, CX
copy:
	CMPQ CX, BX
	JGE  ours
	MOVQ (R15)(CX*8), AX
	MOVQ AX, 0(SP)(CX*8)
	INCQ CX
	JMP  copy
ours:
	LEAQ procs<>(SB), AX
	MOVQ AX, 0(SP)(CX*8)
	LEAQ gc<>(SB), AX
	MOVQ AX, 8(SP)(CX*8)
	LEAQ marker<>(SB), AX
	MOVQ AX, 16(SP)(CX*8)
	MOVQ $0, 24(SP)(CX*8)

	// The file is opened anew; the mount's descriptor closes on the way.
	MOVQ BP, DI
	LEAQ empty<>(SB), SI
	MOVQ R14, DX
	MOVQ SP, R10
	MOVQ $AT_EMPTY_PATH, R8
	MOVQ $SYS_execveat, AX
	SYSCALL
	MOVQ R12, SP
undo:
	MOVQ BP, DI
	MOVQ $3, AX // close
	SYSCALL
start:
	MOVQ R12, SP
	JMP  _rt0_amd64_linux(SB)
