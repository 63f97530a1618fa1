/** Directed tests of what QEMU 7.2 cannot be asked about: Zicond, Zicbom, Zicboz, `ctzw` of 0; and of reservations. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CAUSE, MENVCFG, MSTATUS } from '../hart/state.ts';
import type { Assembler } from '../testing/assembler.ts';
import { BASE, Bench, bench } from '../testing/directed.ts';
import { ALL, PTE } from '../testing/page-tables.ts';

const DATA = 0x8100_0000;
const MPP_S = MSTATUS.MPRV | (1n << 11n);

test('Zicond: every case of the condition, with the destination among the operands', () => {
  for (const [name, zeroGivesZero] of [
    ['czero.eqz', true],
    ['czero.nez', false],
  ] as const) {
    for (const condition of [0n, 1n, 1n << 32n, 1n << 63n, -1n]) {
      for (const rd of [0, 5, 6, 7]) {
        const b = new Bench((a) => a.op(name, { rd, rs1: 5, rs2: 6 }));
        b.setX(5, 0x1234_5678_9abc_def0n).setX(6, condition).run(1);
        const zero = (condition === 0n) === zeroGivesZero;
        assert.equal(b.x(rd), rd === 0 || zero ? 0n : 0x1234_5678_9abc_def0n, `${name} ${condition} x${rd}`);
        b.free();
      }
    }
  }
});

bench(
  'ctzw and clzw of a word of zeros are 32, whatever lies above',
  (a) => {
    a.op('ctzw', { rd: 10, rs1: 5 });
    a.op('clzw', { rd: 11, rs1: 5 });
    a.op('cpopw', { rd: 12, rs1: 5 });
  },
  (b) => {
    b.setX(5, 0xffff_ffff_0000_0000n).run(3);
    assert.deepEqual([b.x(10), b.x(11), b.x(12)], [32n, 32n, 0n]);
  },
);

bench(
  'cbo.zero clears the 64 bytes around its address and nothing else, over code too',
  (a) => {
    a.op('cbo.zero', { rs1: 10 });
    a.op('cbo.zero', { rs1: 11 });
    a.org(BASE + 0x40);
    a.op('addi', { rd: 12, imm: 1 });
  },
  (b) => {
    b.write(DATA, new Uint8Array(256).fill(0xaa))
      .setX(10, DATA + 64 + 17)
      .setX(11, BASE + 0x40)
      .run(1);
    const bytes = b.read(DATA, 256);
    bytes.forEach((byte, i) => {
      assert.equal(byte, i >= 64 && i < 128 ? 0 : 0xaa);
    });
    // Code that was run is gone at once.
    b.set('pc', BASE + 0x40).run(1);
    assert.equal(b.x(12), 1n);
    b.set('pc', BASE + 4)
      .run(1)
      .set('pc', BASE + 0x40)
      .run(1);
    assert.equal(b.trap()?.cause, BigInt(CAUSE.illegal));
  },
);

const BLOCK = {
  'cbo.inval': MENVCFG.CBIE,
  'cbo.clean': MENVCFG.CBCFE,
  'cbo.flush': MENVCFG.CBCFE,
  'cbo.zero': MENVCFG.CBZE,
} as const;

test('cache block operations are allowed mode by mode', () => {
  for (const [name, bits] of Object.entries(BLOCK)) {
    for (const [privilege, menvcfg, senvcfg, legal] of [
      [3, 0n, 0n, true],
      [1, 0n, 0n, false],
      [1, 0n, bits, false],
      [1, bits, 0n, true],
      [0, bits, 0n, false],
      [0, 0n, bits, false],
      [0, bits, bits, true],
    ] as const) {
      const b = new Bench((a) => a.op(name, { rs1: 10 })).open().setX(10, DATA);
      b.set('menvcfg', menvcfg).set('senvcfg', senvcfg).enter(privilege, BASE).run(1);
      assert.equal(b.trap()?.cause, legal ? undefined : BigInt(CAUSE.illegal), `${name} ${privilege}`);
      b.free();
    }
  }
});

test('a block may be managed where it may be loaded or stored to; else a store fault', () => {
  const readable = PTE.V | PTE.R | PTE.A;
  for (const name of Object.keys(BLOCK)) {
    const zero = name === 'cbo.zero';
    for (const [flags, good] of [
      [ALL, true],
      [readable, !zero],
      [PTE.V | PTE.X | PTE.A, false],
      [0n, false],
    ] as const) {
      const b = new Bench((a) => a.op(name, { rs1: 10 })).sv39().map(1, DATA, flags);
      b.set('mstatus', MPP_S).setX(10, 0x1040).run(1);
      const wanted = good ? undefined : { cause: BigInt(CAUSE.storePage), epc: BigInt(BASE), tval: 0x1040n };
      assert.deepEqual(b.trap(), wanted, `${name} ${flags}`);
      b.free();
    }
  }
});

const pair = (between: (a: Assembler) => void) => (a: Assembler) => {
  a.op('lr.d', { rd: 5, rs1: 10 });
  between(a);
  a.op('sc.d', { rd: 6, rs1: 11, rs2: 12 });
  a.op('sc.d', { rd: 7, rs1: 11, rs2: 12 });
};

test('reservations', () => {
  const cases: [string, (a: Assembler) => void, bigint, number, number][] = [
    ['a pair succeeds once', () => {}, 0n, DATA, 1],
    ['at another address it fails', () => {}, 1n, DATA + 8, 1],
    ['instructions between do not matter', (a) => a.op('addi', { rd: 8, rs1: 8, imm: 1 }), 0n, DATA, 2],
    ['an sc that failed ends the reservation', (a) => a.op('sc.w', { rd: 9, rs1: 13, rs2: 0 }), 1n, DATA, 2],
    ['a later lr moves it', (a) => a.op('lr.w', { rd: 9, rs1: 13 }), 1n, DATA, 2],
  ];
  for (const [what, between, failed, address, before] of cases) {
    const b = new Bench(pair(between))
      .setX(10, DATA)
      .setX(11, address)
      .setX(12, 77)
      .setX(13, DATA + 64)
      .run(before + 2);
    assert.deepEqual([b.x(6), b.x(7)], [failed, 1n], what);
    assert.equal(b.u64(address), failed ? 0n : 77n, what);
    b.free();
  }
});

test('a stop and a dropped cache keep a reservation, the end of a slice breaks it', () => {
  const build = pair((a) => {
    for (let n = 0; n < 8; n++) a.op('addi');
  });
  const start = (slice = 1000) => new Bench(build, { slice }).setX(10, DATA).setX(11, DATA).setX(12, 7);
  const outcomes: [string, Bench, bigint][] = [
    ['stops', Array.from({ length: 10 }).reduce((b: Bench) => b.run(1), start()), 0n],
    ['slice', start(4).run(10), 1n],
  ];
  const dropped = start().run(3);
  dropped.machine.engine.dropCaches();
  outcomes.push(['dropped caches', dropped.run(7), 0n]);
  for (const [what, b, failed] of outcomes) {
    assert.equal(b.x(6), failed, what);
    b.free();
  }
});

test('another hart that stores to the place breaks a reservation', () => {
  for (const address of [DATA, DATA + 4096]) {
    const b = new Bench(
      (a) => {
        a.branch('bne', 10, 0, 'other');
        a.op('lr.d', { rd: 5, rs1: 20 });
        for (let n = 0; n < 4; n++) a.op('addi');
        a.op('sc.d', { rd: 6, rs1: 20, rs2: 20 });
        a.label('stop');
        a.jump(0, 'stop');
        a.label('other');
        a.op('sd', { rs1: 21, rs2: 21 });
        a.jump(0, 'stop');
      },
      { harts: 2, slice: 3 },
    );
    b.setX(20, DATA).setX(21, address, 1).run(30);
    // The slice that ended between broke it in any case.
    assert.equal(b.x(6), 1n);
    b.free();
  }
});
