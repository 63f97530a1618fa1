/*
 * One row of `npm run bench -- traps`: COUNT turns of a loop around BODY, after an eighth as many that nobody times.
 *
 * What a row defines: BODY and SETUP, the instructions in the loop and before it; MODE, where the loop runs (0 U, 1 S, 3 M);
 * TO, who handles its traps (1 S, 3 M); HANDLER, what the handler does; PAGED, for paging; GUARDED, for a region that
 * physical memory protection takes away, as a firmware's is; SBI, for a start in S-mode by a firmware. The program prints `<` and `>` around the counted turns, then turns the machine off.
 *
 * s1 is an address where nothing is, s2 two pages of data, s3 the serial port. Paging is Sv39 with pages of 1 GiB: 0 devices,
 * 2 memory, both of S-mode; 3 memory and 4 devices, of U-mode; 1 is mapped nowhere.
 */

#define UART 0x10000000
#define FINISHER 0x100000

#ifndef MODE
#define MODE 3
#endif
#ifndef TO
#define TO 3
#endif
#ifndef SETUP
#define SETUP
#endif

	.option norvc
	.globl _start
_start:
	la	sp, stack
#ifndef SBI
	csrr	t0, mhartid
	bnez	t0, park
	la	t0, machine
	csrw	mtvec, t0
	li	t0, -1
	csrw	mcounteren, t0
	csrw	scounteren, t0
#ifdef GUARDED
	csrw	pmpaddr1, t0
	li	t0, 0x40000000 >> 2 | 0x1fff
	csrw	pmpaddr0, t0
	li	t0, 0x1f18
#else
	csrw	pmpaddr0, t0
	li	t0, 0x1f
#endif
	csrw	pmpcfg0, t0
#if TO == 1
	li	t0, 0xb3ff & ~(1 << 9)
	csrw	medeleg, t0
#endif
	la	t0, supervisor
	csrw	stvec, t0
#ifdef PAGED
	la	t0, root
	srli	t0, t0, 12
	li	t1, 8 << 60
	or	t0, t0, t1
	csrw	satp, t0
	li	s3, UART
#if MODE == 0
	li	s3, 4 << 30 | UART
#endif
#else
	li	s3, UART
#endif
	li	t0, 3 << 11
	csrc	mstatus, t0
	li	t0, MODE << 11 | 3 << 13
	csrs	mstatus, t0
	la	t0, main
#if defined(PAGED) && MODE == 0
	li	t1, 1 << 30
	add	t0, t0, t1
#endif
	csrw	mepc, t0
	mret
#else
	li	s3, UART
	la	t0, supervisor
	csrw	stvec, t0
	j	main
#endif
park:
	wfi
	j	park

main:
	la	s2, data
#ifdef PAGED
	li	s1, 1 << 30
#else
	li	s1, 8
#endif
	SETUP
	li	s0, COUNT / 8
	jal	s10, turns
	li	t0, '<'
	sb	t0, (s3)
	li	s0, COUNT
	jal	s10, turns
	li	t0, '>'
	sb	t0, (s3)
#ifdef SBI
	li	a7, 8
	ecall
#endif
	li	t0, FINISHER - UART
	add	t0, t0, s3
	li	t1, 0x5555
	sw	t1, (t0)
end:	j	end

	.align	6
turns:
	BODY
	addi	s0, s0, -1
	bnez	s0, turns
	jr	s10

/* `skip` goes on behind the instruction, `back` at ra: what was jumped to is not there. */
#ifndef HANDLER
#define HANDLER skip
#endif
	.macro	skip epc
	csrr	t0, \epc
	addi	t0, t0, 4
	csrw	\epc, t0
	.endm
	.macro	back epc
	csrw	\epc, ra
	.endm

	.align	6
machine:
	HANDLER	mepc
	mret

	.align	6
supervisor:
	HANDLER	sepc
	sret

	.align	12
root:
	.quad	0xc7
	.quad	0
	.quad	0x80000 << 10 | 0xcf
	.quad	0x80000 << 10 | 0xdf
	.quad	0xd7
	.align	12
data:
	.skip	8192
	.skip	1024
stack:
