/** Directed tests of traps, interrupts, counters and waiting. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CAUSE, IRQ, MENVCFG, MSTATUS } from '../hart/state.ts';
import { CSR } from '../testing/csr.ts';
import { BASE, Bench, bench } from '../testing/directed.ts';

const CLINT = 0x0200_0000;
const MTIMECMP = CLINT + 0x4000;
const HANDLER = 0x80f0_0000n;
const INTERRUPT = 1n << 63n;
const ORDER = [IRQ.MEI, IRQ.MSI, IRQ.MTI, IRQ.SEI, IRQ.SSI, IRQ.STI] as const;
const numberOf = (bit: bigint) => BigInt(bit.toString(2).length - 1);
const nops = (n: number) => (a: { op(name: string): void }) => {
  for (let i = 0; i < n; i++) a.op('addi');
};

test('ebreak gives its address; ecall the mode it came from', () => {
  for (const [privilege, cause] of [
    [0, CAUSE.ecallUser],
    [1, CAUSE.ecallSupervisor],
    [3, CAUSE.ecallMachine],
  ] as const) {
    const b = new Bench((a) => a.op('ecall')).open().enter(privilege, BASE).run(1);
    assert.deepEqual(b.trap(), { cause: BigInt(cause), epc: BigInt(BASE), tval: 0n });
    assert.equal((b.get('mstatus') & MSTATUS.MPP) >> 11n, BigInt(privilege));
    b.free();
  }
  const b = new Bench((a) => a.op('ebreak')).run(1);
  assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.breakpoint), epc: BigInt(BASE), tval: BigInt(BASE) });
  b.free();
});

test('exceptions are delegated from S- and U-mode only', () => {
  for (const privilege of [0, 1, 3] as const) {
    const b = new Bench((a) => a.op('ebreak'))
      .open()
      .set('medeleg', 1n << 3n)
      .set('stvec', 0x8100_0001n);
    b.set('mstatus', MSTATUS.SIE | MSTATUS.MIE)
      .enter(privilege, BASE)
      .run(1);
    if (privilege === 3) {
      assert.equal(b.trap()?.cause, BigInt(CAUSE.breakpoint));
      assert.equal(b.get('mstatus'), MSTATUS.SIE | MSTATUS.MPIE | MSTATUS.MPP);
    } else {
      // Vectored mode moves interrupts only.
      assert.deepEqual([b.get('pc'), b.get('privilege')], [0x8100_0000n, 1n]);
      assert.deepEqual([b.get('scause'), b.get('sepc'), b.get('stval')], [3n, BigInt(BASE), BigInt(BASE)]);
      assert.equal(b.get('mstatus'), MSTATUS.MIE | MSTATUS.SPIE | (privilege ? MSTATUS.SPP : 0n));
      assert.equal(b.get('mcause'), 0n);
    }
    b.free();
  }
});

test('mret and sret restore the mode and the enables, and take MPRV away outside M-mode', () => {
  const status = MSTATUS.MPRV | MSTATUS.MPIE | MSTATUS.SPIE;
  for (const [mpp, after] of [
    [0n, MSTATUS.MIE | MSTATUS.MPIE | MSTATUS.SPIE],
    [1n, MSTATUS.MIE | MSTATUS.MPIE | MSTATUS.SPIE],
    [3n, MSTATUS.MPRV | MSTATUS.MIE | MSTATUS.MPIE | MSTATUS.SPIE],
  ] as const) {
    const b = new Bench((a) => a.op('mret'))
      .open()
      .set('mepc', 0x8100_0002n)
      .set('mstatus', status | (mpp << 11n))
      .run(1);
    assert.deepEqual([b.get('pc'), b.get('privilege'), b.get('mstatus')], [0x8100_0002n, mpp, after]);
    b.free();
  }
  for (const spp of [0n, 1n]) {
    const b = new Bench((a) => a.op('sret'))
      .open()
      .set('sepc', 0x8100_0002n)
      .set('mstatus', status | (spp << 8n))
      .run(1);
    assert.deepEqual([b.get('pc'), b.get('privilege')], [0x8100_0002n, spp]);
    assert.equal(b.get('mstatus'), MSTATUS.MPIE | MSTATUS.SIE | MSTATUS.SPIE);
    b.free();
  }
});

test('interrupts come in the order of their priority, whether to M or to S', () => {
  for (const delegated of [0n, IRQ.SEI | IRQ.SSI | IRQ.STI]) {
    let pending = ORDER.reduce((sum, bit) => sum | bit, 0n);
    const b = new Bench(nops(4)).open().set('mideleg', delegated).set('mie', pending).set('stvec', 0x8100_0000n);
    for (const bit of ORDER) {
      // The timer's bit is the CLINT's.
      b.machine.platform.clint.setCompare(0, pending & IRQ.MTI ? 0n : (1n << 64n) - 1n);
      b.set('mip', pending & ~IRQ.SEI)
        .set('seipLine', pending & IRQ.SEI)
        .set('mstatus', MSTATUS.SIE)
        .enter(1, BASE)
        .run(1);
      const supervisor = (delegated & bit) !== 0n;
      assert.equal(b.get(supervisor ? 'scause' : 'mcause'), INTERRUPT | numberOf(bit));
      assert.deepEqual(
        [b.get(supervisor ? 'sepc' : 'mepc'), b.get('pc')],
        [BigInt(BASE), supervisor ? 0x8100_0000n : HANDLER],
      );
      pending &= ~bit;
    }
    b.free();
  }
});

test('an interrupt is taken where the mode and the enables say so', () => {
  for (const privilege of [0, 1, 3] as const) {
    for (const status of [0n, MSTATUS.SIE, MSTATUS.MIE]) {
      for (const delegated of [false, true]) {
        const b = new Bench(nops(2))
          .open()
          .set('mie', IRQ.SSI)
          .set('mip', IRQ.SSI)
          .set('mideleg', delegated ? IRQ.SSI : 0n);
        b.set('mtvec', HANDLER + 1n)
          .set('stvec', 0x8100_0001n)
          .set('mstatus', status)
          .enter(privilege, BASE)
          .run(1);
        const taken = delegated
          ? privilege === 0 || (privilege === 1 && status === MSTATUS.SIE)
          : privilege < 3 || status === MSTATUS.MIE;
        // Vectored: base + 4 x 1.
        const where = !taken ? BigInt(BASE + 4) : delegated ? 0x8100_0004n : HANDLER + 4n;
        assert.equal(b.get('pc'), where, `privilege ${privilege}, mstatus ${status}, delegated ${delegated}`);
        b.free();
      }
    }
  }
});

bench(
  'an interrupt that an instruction enables is taken before the next one',
  (a) => {
    a.csrw(CSR.mie, 5);
    a.op('addi', { rd: 10, imm: 1 });
  },
  (b) => {
    b.set('mip', IRQ.SSI).set('mstatus', MSTATUS.MIE).setX(5, IRQ.SSI).setX(10, 0).run(2);
    assert.deepEqual(b.trap(), { cause: INTERRUPT | 1n, epc: BigInt(BASE + 4), tval: 0n });
    assert.equal(b.x(10), 0n);
  },
);

bench(
  'the timer comes at the step at which its time has come',
  (a) => {
    a.op('sd', { rs1: 5, rs2: 6 });
    nops(600)(a);
  },
  (b) => {
    // Tick 3 begins at 300 ns: after 300 steps.
    b.setX(5, MTIMECMP).setX(6, 3).set('mie', IRQ.MTI).set('mstatus', MSTATUS.MIE).run(300);
    assert.equal(b.get('pc'), BigInt(BASE + 4 * 300));
    b.run(1);
    assert.deepEqual(b.trap(), { cause: INTERRUPT | 7n, epc: BigInt(BASE + 4 * 300), tval: 0n });
  },
);

test('stimecmp: pending from the step at which time reaches it, unless Sstc is off', () => {
  for (const on of [true, false]) {
    const b = new Bench((a) => {
      a.csrw(CSR.stimecmp, 6);
      nops(400)(a);
    });
    b.set('menvcfg', on ? MENVCFG.STCE : 0n)
      .setX(6, 2)
      .set('mie', IRQ.STI)
      .set('mstatus', MSTATUS.MIE)
      .run(201);
    const expected = on ? { cause: INTERRUPT | 5n, epc: BigInt(BASE + 800), tval: 0n } : undefined;
    assert.deepEqual(b.trap(), expected);
    b.free();
  }
});

bench(
  'mcycle and minstret count steps and instructions, exactly',
  (a) => {
    a.csrr(10, CSR.mcycle);
    a.csrr(11, CSR.mcycle);
    a.csrr(12, CSR.minstret);
    nops(5)(a);
    a.csrr(13, CSR.minstret);
    a.csrw(CSR.minstret, 5);
    a.csrr(14, CSR.minstret);
    a.csrr(15, CSR.minstret);
    a.csrw(CSR.mcycle, 5);
    a.csrr(16, CSR.mcycle);
  },
  (b) => {
    b.setX(5, 1000).run(14);
    assert.equal(b.x(11) - b.x(10), 1n);
    assert.equal(b.x(13) - b.x(12), 6n);
    // The write takes the place of the writing instruction's own increment.
    assert.deepEqual([b.x(14), b.x(15), b.x(16)], [1000n, 1001n, 1000n]);
  },
);

bench(
  'a trap is a step and no instruction',
  (a) => {
    a.csrr(10, CSR.minstret);
    a.csrr(11, CSR.mcycle);
    a.op('ecall');
    a.org(BASE + 0x100);
    a.csrr(12, CSR.minstret);
    a.csrr(13, CSR.mcycle);
  },
  (b) => {
    b.set('mtvec', BASE + 0x100).run(5);
    assert.equal(b.x(12) - b.x(10), 2n);
    assert.equal(b.x(13) - b.x(11), 3n);
    assert.equal(b.machine.instructions(0), 4n);
    assert.equal(b.machine.totalSteps, 5n);
  },
);

bench(
  'counters stand still while they are inhibited, each for itself',
  (a) => {
    a.csrw(CSR.mcountinhibit, 5);
    a.csrr(10, CSR.mcycle);
    nops(3)(a);
    a.csrr(11, CSR.mcycle);
    a.csrr(12, CSR.minstret);
    a.csrr(13, CSR.minstret);
    a.csrw(CSR.mcountinhibit, 6);
    a.csrr(14, CSR.mcycle);
    a.csrr(15, CSR.mcycle);
    a.csrr(16, CSR.minstret);
    nops(2)(a);
    a.csrr(17, CSR.minstret);
  },
  (b) => {
    b.setX(5, 1).setX(6, 4).run(15);
    assert.equal(b.x(11), b.x(10));
    assert.equal(b.x(13), b.x(12) + 1n);
    assert.equal(b.x(15), b.x(14) + 1n);
    assert.equal(b.x(17), b.x(16));
  },
);

bench(
  'time counts ticks of 100 steps',
  (a) => {
    a.csrr(10, CSR.time);
    nops(98)(a);
    a.csrr(11, CSR.time);
    a.csrr(12, CSR.time);
  },
  (b) => {
    b.run(101);
    assert.deepEqual([b.x(10), b.x(11), b.x(12)], [0n, 0n, 1n]);
  },
);

test('counters are readable below M-mode as mcounteren and scounteren say', () => {
  for (const [n, csr] of [CSR.cycle, CSR.time, CSR.instret].entries()) {
    for (const [privilege, machine, supervisor, good] of [
      [1, 0, 0, false],
      [1, 1, 0, true],
      [0, 1, 0, false],
      [0, 0, 1, false],
      [0, 1, 1, true],
    ] as const) {
      const b = new Bench((a) => a.csrr(10, csr)).open();
      b.set('mcounteren', machine << n)
        .set('scounteren', supervisor << n)
        .enter(privilege, BASE)
        .run(1);
      assert.equal(b.trap()?.cause, good ? undefined : BigInt(CAUSE.illegal));
      b.free();
    }
  }
});

bench(
  'wfi waits until an interrupt is pending that mie allows, taken or not',
  (a) => {
    a.op('wfi');
    a.op('addi', { rd: 10, imm: 7 });
  },
  (b) => {
    b.setX(10, 0).set('mie', IRQ.MSI);
    assert.deepEqual(b.machine.run(100), { reason: 'idle', until: undefined });
    assert.equal(b.machine.totalSteps, 1n);
    assert.equal(b.get('pc'), BigInt(BASE + 4));
    b.set('mip', IRQ.MTI);
    assert.equal(b.machine.run(100).reason, 'idle');
    b.set('mip', IRQ.MSI).run(1);
    assert.equal(b.x(10), 7n);
  },
);

test('wfi does not wait when something is pending already, and traps where it may not be', () => {
  const b = new Bench((a) => a.op('wfi')).set('mie', IRQ.SSI).set('mip', IRQ.SSI).run(1);
  assert.deepEqual([b.get('pc'), b.get('waiting')], [BigInt(BASE + 4), 0n]);
  b.free();
  for (const [privilege, status, good] of [
    [1, 0n, true],
    [1, MSTATUS.TW, false],
    [3, MSTATUS.TW, true],
    [0, 0n, false],
  ] as const) {
    const c = new Bench((a) => a.op('wfi')).open().set('mstatus', status).enter(privilege, BASE).run(1);
    assert.equal(c.trap()?.cause, good ? undefined : BigInt(CAUSE.illegal));
    c.free();
  }
});

test('TVM, TSR: what S-mode may not do is illegal', () => {
  const cases = [
    ['sfence.vma', MSTATUS.TVM],
    ['satp', MSTATUS.TVM],
    ['sret', MSTATUS.TSR],
  ] as const;
  for (const [what, bit] of cases) {
    for (const [privilege, status, good] of [
      [1, 0n, true],
      [1, bit, false],
      [3, bit, true],
      [0, 0n, false],
    ] as const) {
      const b = new Bench((a) => (what === 'satp' ? a.csrr(10, CSR.satp) : a.op(what))).open();
      b.set('sepc', BASE + 64)
        .set('mstatus', status)
        .enter(privilege, BASE)
        .run(1);
      assert.equal(b.trap()?.cause, good ? undefined : BigInt(CAUSE.illegal), `${what} ${privilege} ${status}`);
      b.free();
    }
  }
});

test('floating point off: instructions and CSRs are illegal, and on they make the state dirty', () => {
  const instructions = ['fadd.d', 'flw', 'fsd', 'fmv.x.w', 'fsgnj.s', 'fcvt.d.w'];
  for (const name of instructions) {
    for (const fs of [0n, 1n]) {
      const b = new Bench((a) => a.op(name, { rd: 10, rs1: 5, rs2: 5 }))
        .set('mstatus', fs << 13n)
        .setX(5, BASE)
        .run(1);
      assert.equal(b.trap()?.cause, fs ? undefined : BigInt(CAUSE.illegal), name);
      const writes = !['fsd', 'fmv.x.w'].includes(name);
      if (fs) assert.equal(b.get('mstatus') & MSTATUS.FS, writes ? MSTATUS.FS : 1n << 13n, name);
      b.free();
    }
  }
  const b = new Bench((a) => a.csrr(10, CSR.fcsr)).run(1);
  assert.equal(b.trap()?.cause, BigInt(CAUSE.illegal));
  b.free();
});
