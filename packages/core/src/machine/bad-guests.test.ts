/** Guests that do what no honest one does: the host stays alive, every step is counted, `run` comes back. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryBackend } from '../devices/virtio-block/backend.ts';
import { Engine } from '../engine/engine.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Pool, PoolFullError } from '../memory/pool.ts';
import { Assembler } from '../testing/assembler.ts';
import { bareMachine, ENGINE_OPTIONS, MEMORY, runSteps, SEED } from '../testing/machines.ts';
import { disturb } from '../testing/perturbed.ts';
import { Random } from '../testing/random.ts';
import { stateHash } from './hash.ts';
import { Machine } from './machine.ts';

const [ra, t0, t1, t2, t3, s0, s1] = [1, 5, 6, 7, 28, 8, 9] as const;

function program(build: (a: Assembler) => void): Uint8Array {
  const a = new Assembler(RAM_BASE);
  build(a);
  return a.bytes();
}

const U64 = (1n << 64n) - 1n;

describe('guests that only trap', () => {
  const guests: [string, (a: Assembler) => void][] = [
    ['mtvec is 0 and unmapped', (a) => a.word(0)],
    [
      'mtvec leads to a device',
      (a) => {
        a.li(t0, 0x1000_0000);
        a.csrw(0x305, t0);
        a.word(0);
      },
    ],
    [
      'the handler is the instruction that traps',
      (a) => {
        a.la(t0, 'trap');
        a.csrw(0x305, t0);
        a.label('trap');
        a.op('ecall');
      },
    ],
    [
      'the handler lies across the end of RAM',
      (a) => {
        a.li(t0, RAM_BASE + MEMORY - 2);
        a.li(t1, 0xffff_ffff);
        a.op('sh', { rs1: t0, rs2: t1 });
        a.op('jalr', { rs1: t0 });
      },
    ],
    [
      'paging on with no page table',
      (a) => {
        a.li(t0, (8n << 60n) | 0x1_0000n);
        a.csrw(0x180, t0);
        a.li(t0, 0x800);
        a.csrw(0x300, t0);
        a.op('addi', { rd: t0, imm: -1 });
        a.csrw(0x302, t0);
        a.op('mret');
      },
    ],
    [
      'page tables that are their own tables',
      (a) => {
        const table = RAM_BASE + 0x10_0000;
        a.li(t0, table);
        a.li(t1, ((BigInt(table) >> 12n) << 10n) | 1n);
        for (let n = 0; n < 4; n++) a.op('sd', { rs1: t0, rs2: t1, imm: 8 * n });
        a.li(t0, (9n << 60n) | BigInt(table / 4096));
        a.csrw(0x180, t0);
        a.li(t0, 0x800);
        a.csrw(0x300, t0);
        a.op('mret');
      },
    ],
    [
      'an interrupt that nobody acknowledges',
      (a) => {
        a.la(t0, 'handler');
        a.csrw(0x305, t0);
        a.li(t1, 0x200_0000);
        a.op('addi', { rd: t2, imm: 1 });
        a.op('sw', { rs1: t1, rs2: t2 });
        a.op('addi', { rd: t0, imm: 8 });
        a.csrw(0x304, t0);
        a.label('handler');
        a.op('csrrsi', { csr: 0x300, imm: 8 });
        a.jump(0, 'handler');
      },
    ],
  ];
  for (const [name, build] of guests) {
    test(name, () => {
      const image = program(build);
      const machine = bareMachine(image, { slice: 1000 });
      for (const steps of [1, 7, 1000, 12_345]) {
        const before = machine.totalSteps;
        const now = machine.now;
        assert.deepEqual(machine.run(steps), { reason: 'steps' });
        assert.equal(machine.totalSteps - before, BigInt(steps));
        assert.equal(machine.now - now, BigInt(steps));
      }
      assert.ok(machine.hartSet.get(0, 'traps') > 1000n, `${machine.hartSet.get(0, 'traps')} traps`);
      assert.equal(machine.instructions(0) + machine.hartSet.get(0, 'traps'), machine.totalSteps);
      const again = disturb(bareMachine(image, { slice: 1000 }), 13_353, new Random(SEED), {
        kinds: ['stop', 'drop', 'reborn', 'hash'],
      });
      assert.equal(stateHash(again), stateHash(machine));
      machine.free();
      again.free();
    });
  }
});

describe('guests that never let go', () => {
  test('spinning with interrupts off', () => {
    const machine = bareMachine(
      program((a) => {
        a.csrw(0x304, 0);
        a.label('spin');
        a.jump(0, 'spin');
      }),
    );
    machine.input({ kind: 'console', bytes: new Uint8Array(100_000) });
    assert.deepEqual(machine.run(3_000_000), { reason: 'steps' });
    assert.equal(machine.totalSteps, 3_000_000n);
    assert.ok(machine.backlog > 0, 'what the port does not take waits outside');
    machine.interrupt();
    assert.deepEqual(machine.run(), { reason: 'attention' });
    machine.free();
  });

  test('flooding the console', () => {
    let bytes = 0;
    let largest = 0;
    const machine = bareMachine(
      program((a) => {
        a.li(t0, 0x1000_0000);
        a.li(t1, 0x1b);
        a.label('again');
        a.op('sb', { rs1: t0, rs2: t1 });
        a.jump(0, 'again');
      }),
      {},
      {
        console: (part) => {
          bytes += part.length;
          largest = Math.max(largest, part.length);
        },
      },
    );
    assert.deepEqual(machine.run(1_000_002), { reason: 'steps' });
    // li t1 is one instruction, li t0 one too.
    assert.equal(bytes, 500_000);
    assert.ok(largest <= 65_536, `pieces of ${largest} bytes`);
    machine.free();
  });

  test('pausing and waiting in every slice', () => {
    const machine = bareMachine(
      program((a) => {
        a.li(t0, 0x8);
        a.csrw(0x304, t0);
        a.label('again');
        a.op('pause');
        a.jump(0, 'again');
      }),
      { harts: 8 },
    );
    assert.deepEqual(machine.run(100_000), { reason: 'steps' });
    assert.equal(machine.totalSteps, 100_000n);
    machine.free();
  });
});

describe('code where there is none', () => {
  const places: [string, bigint][] = [
    ['a device', 0x1000_0000n],
    ['nothing', 0x7000_0000n],
    ['behind RAM', BigInt(RAM_BASE + MEMORY)],
    ['the last address', U64 - 1n],
    ['the middle of the address space', 1n << 63n],
  ];
  for (const [name, target] of places) {
    test(`a jump to ${name}`, () => {
      const machine = bareMachine(
        program((a) => {
          a.la(t0, 'handler');
          a.csrw(0x305, t0);
          a.li(t1, target);
          a.op('jalr', { rd: ra, rs1: t1 });
          a.label('handler');
          a.op('wfi');
          a.jump(0, 'handler');
        }),
      );
      assert.equal(machine.run(1000).reason, 'idle');
      assert.equal(machine.hartSet.get(0, 'mcause'), 1n);
      assert.equal(machine.hartSet.get(0, 'mtval'), target);
      assert.equal(machine.hartSet.get(0, 'mepc'), target);
      machine.free();
    });
  }

  test('falling off the end of RAM', () => {
    const machine = bareMachine(
      program((a) => {
        a.la(t0, 'handler');
        a.csrw(0x305, t0);
        a.li(t1, RAM_BASE + MEMORY - 8);
        a.li(t2, 0x13);
        a.op('sw', { rs1: t1, rs2: t2 });
        a.op('sw', { rs1: t1, rs2: t2, imm: 4 });
        a.op('jalr', { rs1: t1 });
        a.label('handler');
        a.op('wfi');
        a.jump(0, 'handler');
      }),
    );
    assert.equal(machine.run(1000).reason, 'idle');
    assert.equal(machine.hartSet.get(0, 'mepc'), BigInt(RAM_BASE + MEMORY));
    machine.free();
  });

  test('data accesses across the end of RAM and around the address space', () => {
    const machine = bareMachine(
      program((a) => {
        a.la(t0, 'handler');
        a.csrw(0x305, t0);
        for (const address of [
          BigInt(RAM_BASE + MEMORY - 3),
          U64 - 2n,
          BigInt(RAM_BASE - 3),
          0x1000_00fdn,
          (1n << 63n) - 4n,
        ]) {
          a.li(t1, address);
          a.op('ld', { rd: t2, rs1: t1 });
          a.op('sd', { rs1: t1, rs2: t2 });
        }
        a.op('wfi');
        a.label('handler');
        a.csrr(t3, 0x341);
        a.op('addi', { rd: t3, rs1: t3, imm: 4 });
        a.csrw(0x341, t3);
        a.op('addi', { rd: s0, rs1: s0, imm: 1 });
        a.op('mret');
      }),
    );
    assert.equal(machine.run(1000).reason, 'idle');
    assert.equal(machine.hartSet.getX(0, s0), 10n);
    machine.free();
  });
});

/** Random stores and loads over all of the platform's registers, most of them where something is. */
test(`random accesses to every device register, disturbed (seed ${SEED})`, () => {
  const bases = [0x10_0000, 0x10_1000, 0x200_0000, 0xc00_0000, 0x1000_0000];
  for (let slot = 0; slot < 8; slot++) bases.push(0x1000_1000 + slot * 0x1000);
  for (let round = 0; round < 12; round++) {
    const choices = new Random(SEED + round);
    const image = program((a) => {
      a.la(t0, 'handler');
      a.csrw(0x305, t0);
      a.li(t0, 0x888);
      a.csrw(0x304, t0);
      for (let n = 0; n < 1500; n++) {
        const base = choices.pick(bases);
        const offset =
          base === 0x200_0000
            ? choices.pick([0, 4, 0x4000, 0x4004, 0x4008, 0xbff8, 0xbffc, choices.below(0x10000)])
            : base === 0xc00_0000
              ? choices.pick([
                  4 * choices.below(128),
                  0x1000,
                  0x2000 + 0x80 * choices.below(4),
                  0x20_0000 + 0x1000 * choices.below(4) + 4 * choices.below(2),
                  choices.below(0x60_0000),
                ])
              : choices.pick([4 * choices.below(64), choices.below(256), 0x100 + choices.below(0x40)]);
        a.li(t1, base + offset);
        // The finisher's known commands would end it at once.
        const value = choices.pick([
          0,
          1,
          2,
          3,
          4,
          7,
          8,
          0xf,
          choices.u32(),
          RAM_BASE + 0x10_0000 + choices.below(0x1000),
        ]);
        a.li(t2, base === 0x10_0000 ? choices.below(0x1000) : value);
        a.op(choices.pick(['sw', 'sw', 'sw', 'sw', 'sb', 'sh', 'sd', 'lw', 'lbu', 'ld', 'amoadd.w']), {
          rd: t3,
          rs1: t1,
          rs2: t2,
        });
      }
      a.label('end');
      a.jump(0, 'end');
      a.org((a.here + 3n) & ~3n);
      a.label('handler');
      a.csrr(t3, 0x341);
      a.op('addi', { rd: t3, rs1: t3, imm: 4 });
      a.csrw(0x341, t3);
      a.op('mret');
    });
    const disk = () => ({ disks: [{ backend: new MemoryBackend(new Uint8Array(1 << 16)) }] });
    const make = () => bareMachine(image, { slice: 700, harts: 2, ...disk() });
    const machine = make();
    const stop = runSteps(machine, 15_000);
    assert.ok(stop.reason === 'steps' || stop.reason === 'exit', stop.reason);
    const again = disturb(make(), 15_000, new Random(round), { kinds: ['stop', 'drop', 'hash'] });
    assert.equal(stateHash(again), stateHash(machine));
    machine.free();
    again.free();
  }
});

describe('a pool that fills up', () => {
  const touch = (end: number) =>
    program((a) => {
      a.li(t0, RAM_BASE + 0x1000);
      a.li(t1, 4096);
      a.li(t2, end);
      a.li(s1, RAM_BASE + 0x800);
      a.label('again');
      // What would show if any of it were done twice.
      a.op('ld', { rd: s0, rs1: s1 });
      a.op('addi', { rd: s0, rs1: s0, imm: 1 });
      a.op('sd', { rs1: s1, rs2: s0 });
      a.op('sd', { rs1: t0, rs2: t0 });
      a.op('add', { rd: t0, rs1: t0, rs2: t1 });
      a.branch('bne', t0, t2, 'again');
      a.li(s0, 0);
      a.label('wait');
      a.op('wfi');
      a.op('addi', { rd: s0, rs1: s0, imm: 1 });
      a.jump(0, 'wait');
    });
  const touchAll = touch(RAM_BASE + MEMORY);

  for (const translate of [false, { hotness: 1, batch: 1 }]) {
    const how = translate ? 'translated' : 'interpreted';
    test(`a typed error; other machines run on, and so does this one when there is room again, ${how}`, () => {
      const pool = new Pool(9000);
      const engine = new Engine(pool, 0, { translate });
      const before = pool.used;
      const first = bareMachine(touch(RAM_BASE + 3000 * 4096), {}, {}, engine);
      const second = bareMachine(touchAll, {}, {}, engine);
      assert.equal(runSteps(first, 40_000).reason, 'idle');
      assert.throws(() => runSteps(second, 80_000), PoolFullError);
      assert.throws(() => runSteps(second, 80_000), PoolFullError, 'it stays full');
      first.hartSet.set(0, 'waiting', 0n);
      runSteps(first, 10);
      assert.equal(first.hartSet.getX(0, s0), 1n);
      first.free();
      assert.equal(runSteps(second, 100_000).reason, 'idle');
      const alone = bareMachine(touchAll);
      runSteps(alone, 100_000);
      assert.equal(second.totalSteps, alone.totalSteps);
      assert.equal(second.now, alone.now);
      assert.equal(stateHash(second), stateHash(alone));
      second.free();
      alone.free();
      // The hasher of a pool keeps a frame.
      assert.ok(pool.used <= before + 1, `${pool.used - before} frames left over`);
    });
  }

  test('a machine that does not fit takes nothing', () => {
    const pool = new Pool(200);
    const engine = new Engine(pool, 0, ENGINE_OPTIONS);
    const before = pool.used;
    const kernel = new Uint8Array(4 << 20).fill(1);
    assert.throws(() => bareMachine(kernel, {}, {}, engine), PoolFullError);
    assert.equal(pool.used, before);
    assert.throws(
      () => new Machine(engine, { boot: { kind: 'bare', image: kernel }, memory: 2 ** 31, harts: 1, seed: 0n }),
      PoolFullError,
    );
    assert.equal(pool.used, before);
  });
});

test('a machine whose generated code has trapped does not run on', () => {
  const engine = new Engine(new Pool(), 0, ENGINE_OPTIONS);
  const machine = bareMachine(
    program((a) => a.op('addi')),
    {},
    {},
    engine,
  );
  const run = engine.run;
  engine.run = () => {
    throw new WebAssembly.RuntimeError('unreachable');
  };
  assert.throws(() => machine.run(1), WebAssembly.RuntimeError);
  engine.run = run;
  assert.throws(() => machine.run(1), { code: 'ERR_BRAID_MACHINE', message: /unreachable.*restore/ });
  machine.free();
});

test('an input that makes no sense is refused once, and is no event', () => {
  const machine = bareMachine(new Uint8Array(4));
  machine.input({ kind: 'resize', columns: -1, rows: 24 });
  assert.throws(() => machine.run(1), RangeError);
  assert.deepEqual(machine.run(1), { reason: 'steps' });
  assert.deepEqual(
    machine.log.events.map(({ event }) => event.kind),
    ['skip-idle'],
  );
  machine.free();
});
