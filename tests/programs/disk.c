/*
 * A small kernel for the `virt` machine, with no firmware under it: an M-mode monitor of one page, and above it in S-mode, behind
 * Sv39 page tables, a driver that reads and writes a virtio disk by interrupts of the PLIC.
 *
 * The disk holds, in each 32-bit word of sector s, the number s * 128 + index of the word. The program checks some sectors, writes
 * the complement of sector 1 to sector 2, reads it back, gets an error for a sector behind the end, asks for the disk's name, flushes,
 * says on the console what it found, and switches the machine off: with a code if something was wrong.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define UART ((volatile u8 *)0x10000000)
#define FINISHER ((volatile u32 *)0x100000)
#define VIRTIO ((volatile u32 *)0x10001000)
#define PLIC 0x0c000000ul
#define REG(offset) VIRTIO[(offset) / 4]
#define PLIC_REG(offset) (*(volatile u32 *)(PLIC + (offset)))
#define csr_write(name, value) asm volatile("csrw " #name ", %0" ::"r"((u64)(value)) : "memory")
#define csr_read(name) ({ u64 v_; asm volatile("csrr %0, " #name : "=r"(v_)::"memory"); v_; })

#define SECTOR 512
#define QUEUE 8
#define NEXT 1
#define WRITE 2

struct descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};
struct available {
    u16 flags, index, ring[QUEUE];
};
struct used {
    u16 flags, index;
    struct { u32 id, length; } ring[QUEUE];
};
struct request {
    u32 type, reserved;
    u64 sector;
};

static struct descriptor descriptors[QUEUE] __attribute__((aligned(4096)));
static volatile struct available available __attribute__((aligned(4096)));
static volatile struct used used __attribute__((aligned(4096)));
static u64 root[512] __attribute__((aligned(4096)));
static u64 devices[512] __attribute__((aligned(4096)));
static u32 buffer[SECTOR / 4], other[SECTOR / 4];
static volatile int interrupts;
static volatile u16 done;
u8 stack[16384] __attribute__((aligned(16)));
u64 machine_save[8];

void supervisor(void);

asm(".section .init, \"ax\"\n"
    ".global _start\n"
    "_start:\n"
    "  bnez a0, park\n"
    "  la sp, stack + 16384\n"
    "  la t0, machine_trap\n"
    "  csrw mtvec, t0\n"
    "  la t0, machine_save\n"
    "  csrw mscratch, t0\n"
    "  li t0, -1\n"
    "  csrw pmpaddr0, t0\n"
    "  li t0, 0x1f\n"
    "  csrw pmpcfg0, t0\n"
    "  li t0, 0xb1ff\n" /* everything but ecall from S-mode */
    "  csrw medeleg, t0\n"
    "  li t0, 0x222\n"
    "  csrw mideleg, t0\n"
    "  li t0, 0x800\n"
    "  csrw mstatus, t0\n"
    "  la t0, supervisor\n"
    "  csrw mepc, t0\n"
    "  mret\n"
    "park:\n"
    "  wfi\n"
    "  j park\n"
    /* ecall: prints the character in a0 */
    ".align 2\n"
    "machine_trap:\n"
    "  csrrw t0, mscratch, t0\n"
    "  sd t1, 0(t0)\n"
    "  csrr t1, mepc\n"
    "  addi t1, t1, 4\n"
    "  csrw mepc, t1\n"
    "  li t1, 0x10000000\n"
    "  sb a0, 0(t1)\n"
    "  ld t1, 0(t0)\n"
    "  csrrw t0, mscratch, t0\n"
    "  mret\n"
    ".text\n");

static void print(const char *text)
{
    while (*text) {
        register u64 a0 asm("a0") = (u8)*text++;
        asm volatile("ecall" : "+r"(a0)::"memory");
    }
}

static void finish(int code)
{
    *FINISHER = code ? 0x3333 | code << 16 : 0x5555;
    for (;;)
        ;
}

static void check(int good, const char *what, int code)
{
    if (good)
        return;
    print("wrong: ");
    print(what);
    print("\n");
    finish(code);
}

__attribute__((interrupt("supervisor"), aligned(4))) static void trap(void)
{
    u64 cause = csr_read(scause);
    check(cause == (1ul << 63 | 9), "an unexpected trap", 1);
    u32 irq = PLIC_REG(0x201004);
    check(irq == 1, "an interrupt of somebody else", 2);
    REG(0x64) = REG(0x60);
    done = used.index;
    interrupts++;
    PLIC_REG(0x201004) = irq;
}

/* Makes a request and waits for its answer; gives the status. `flag` is WRITE when the device fills the data. */
static int transfer(u32 type, u64 sector, void *data, u32 length, u16 flag)
{
    static struct request request;
    static volatile u8 status;
    static u16 sent;
    request.type = type;
    request.sector = sector;
    status = 0xff;
    descriptors[0] = (struct descriptor){ (u64)&request, sizeof request, NEXT, length ? 1 : 2 };
    descriptors[1] = (struct descriptor){ (u64)data, length, flag | NEXT, 2 };
    descriptors[2] = (struct descriptor){ (u64)&status, 1, WRITE, 0 };
    available.ring[sent % QUEUE] = 0;
    __sync_synchronize();
    available.index = ++sent;
    __sync_synchronize();
    REG(0x50) = 0;
    while (done != sent) {
        /* Interrupts off between the look and the wait; a pending one ends it all the same. */
        asm volatile("csrci sstatus, 2");
        if (done != sent)
            asm volatile("wfi");
        asm volatile("csrsi sstatus, 2");
    }
    check(used.ring[(sent - 1) % QUEUE].id == 0, "the head that came back", 3);
    return status;
}

static void set_up_paging(void)
{
    /* RAM in a gigapage; the devices in 2 MiB pages. */
    root[2] = 0x80000000ul >> 2 | 0xcf;
    root[0] = (u64)devices >> 2 | 1;
    for (u64 n = 0; n < 512; n++)
        devices[n] = n << 21 >> 2 | 0xc7;
    csr_write(satp, 8ul << 60 | (u64)root >> 12);
    asm volatile("sfence.vma");
}

static void set_up_disk(void)
{
    check(REG(0x00) == 0x74726976 && REG(0x04) == 2 && REG(0x08) == 2, "no disk", 4);
    REG(0x70) = 0;
    REG(0x70) = 1;
    REG(0x70) = 3;
    REG(0x14) = 1;
    check(REG(0x10) & 1, "a device of the old kind", 5);
    REG(0x24) = 1;
    REG(0x20) = 1;
    REG(0x24) = 0;
    REG(0x20) = 1 << 9; /* FLUSH */
    REG(0x70) = 11;
    check(REG(0x70) & 8, "features", 6);
    REG(0x30) = 0;
    check(REG(0x34) >= QUEUE && !REG(0x44), "the queue", 7);
    REG(0x38) = QUEUE;
    REG(0x80) = (u64)descriptors;
    REG(0x84) = (u64)descriptors >> 32;
    REG(0x90) = (u64)&available;
    REG(0x94) = (u64)&available >> 32;
    REG(0xa0) = (u64)&used;
    REG(0xa4) = (u64)&used >> 32;
    REG(0x44) = 1;
    REG(0x70) = 15;
    PLIC_REG(4) = 1;
    PLIC_REG(0x2080) = 1 << 1;
    PLIC_REG(0x201000) = 0;
    csr_write(stvec, trap);
    csr_write(sie, 1 << 9);
    asm volatile("csrsi sstatus, 2");
}

void supervisor(void)
{
    set_up_paging();
    set_up_disk();
    u32 sectors = REG(0x100);
    for (u32 sector = 0; sector < sectors; sector += sectors / 5) {
        check(transfer(0, sector, buffer, SECTOR, WRITE) == 0, "reading", 8);
        for (u32 n = 0; n < SECTOR / 4; n++)
            check(buffer[n] == sector * 128 + n, "what was read", 9);
    }
    transfer(0, 1, buffer, SECTOR, WRITE);
    for (u32 n = 0; n < SECTOR / 4; n++)
        buffer[n] = ~buffer[n];
    check(transfer(1, 2, buffer, SECTOR, 0) == 0, "writing", 10);
    check(transfer(0, 2, other, SECTOR, WRITE) == 0, "reading again", 11);
    for (u32 n = 0; n < SECTOR / 4; n++)
        check(other[n] == buffer[n], "what was read again", 12);
    check(transfer(0, sectors, other, SECTOR, WRITE) == 1, "a sector behind the end", 13);
    check(transfer(4, 0, 0, 0, 0) == 0, "flushing", 14);
    static char name[21];
    check(transfer(8, 0, name, 20, WRITE) == 0, "the name", 15);
    check(interrupts >= 10, "the number of interrupts", 16);
    print("the disk ");
    print(name);
    print(" is good\n");
    finish(0);
}
