/** Watchpoints in small programs, one question each; who else hears of accesses; and at which step. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { PLATFORM } from '../boot/device-tree.ts';
import { AccessLog, READ, WRITTEN } from '../branch/access-log.ts';
import { becomeForkPoint, forkPoint, freeForkPoint } from '../branch/fork-point.ts';
import { type AccessKind, addressOf, Engine } from '../engine/engine.ts';
import { Pool } from '../memory/pool.ts';
import { accesses } from '../testing/access-oracle.ts';
import { Assembler } from '../testing/assembler.ts';
import { plainMachine } from '../testing/bare.ts';
import { BASE, Bench, bench } from '../testing/directed.ts';
import { loopProgram } from '../testing/loop-program.ts';
import { bareMachine, runSteps, runs, SEED } from '../testing/machines.ts';
import { ALL, PTE } from '../testing/page-tables.ts';
import { stateHash } from './hash.ts';
import { MachineError } from './options.ts';
import type { WatchHit, Watchpoint } from './watchpoints.ts';

const [t0, t1, a0, a1, a2] = [5, 6, 10, 11, 12] as const;
const SOMEWHERE = BASE + 0x10_0000;

/** Hits of a bench's machine, that go on. */
function noted(b: Bench, ...wanted: Omit<Watchpoint, 'hit'>[]): WatchHit[] {
  const hits: WatchHit[] = [];
  for (const each of wanted) b.machine.watchpoints.add({ ...each, hit: (hit) => hits.push(hit) < 0 });
  return hits;
}

bench(
  'a conditional store hits where it is made, and not where it fails',
  (a) => {
    a.op('sc.d', { rd: a1, rs1: a0, rs2: t0 });
    a.op('lr.d', { rd: a1, rs1: a0 });
    a.op('sc.d', { rd: a1, rs1: a0, rs2: t0 });
    a.op('sc.d', { rd: a1, rs1: a0, rs2: t0 });
    a.op('lr.w', { rd: a1, rs1: a0 });
    a.op('sc.w', { rs1: t1, rs2: t0 });
  },
  (b) => {
    b.setX(a0, SOMEWHERE).setX(t1, SOMEWHERE + 8);
    const hits = noted(b, { address: BigInt(SOMEWHERE), length: 16, on: 'access' });
    b.run(6);
    assert.deepEqual(
      hits.map(({ steps, access, length }) => [steps, access, length]),
      [
        [1n, 'read', 8],
        [2n, 'write', 8],
        [4n, 'read', 4],
      ],
    );
    assert.equal(b.get('reservation'), 0n);
  },
);

bench(
  'reservations are the same with and without a watchpoint',
  (a) => {
    for (let n = 0; n < 2; n++) {
      a.op('lr.d', { rd: a1, rs1: a0 });
      // The entry of the same place in the tables goes to another page meanwhile.
      a.op('ld', { rd: a2, rs1: t1 });
      a.op('sc.d', { rd: a2, rs1: a0, rs2: t0 });
    }
  },
  (b) => {
    const plain = new Bench((a) => {
      for (let n = 0; n < 2; n++) {
        a.op('lr.d', { rd: a1, rs1: a0 });
        a.op('ld', { rd: a2, rs1: t1 });
        a.op('sc.d', { rd: a2, rs1: a0, rs2: t0 });
      }
    });
    for (const each of [b, plain])
      each
        .setX(a0, SOMEWHERE)
        .setX(t0, 5)
        .setX(t1, SOMEWHERE + 0x40_0000);
    b.machine.watchpoints.add({ address: BigInt(SOMEWHERE), length: 8, on: 'access', hit: () => false });
    for (let n = 0; n < 6; n++) {
      for (const each of [b, plain]) each.run(1);
      assert.equal(b.get('reservation'), plain.get('reservation'));
      assert.equal(b.x(a2), plain.x(a2));
      assert.equal(stateHash(b.machine), stateHash(plain.machine));
    }
    assert.equal(b.u64(SOMEWHERE), 5n);
    plain.free();
  },
);

bench(
  'an access of which the second page faults does not count; the flags that were set for the first one do',
  (a) => {
    a.op('sd', { rs1: a0, rs2: a1 });
  },
  (b) => {
    const writable = PTE.V | PTE.R | PTE.W;
    b.sv39().map(0, BASE, ALL).map(1, SOMEWHERE, writable);
    const entry = b.entry(1);
    const hits = noted(
      b,
      { address: 0x1ff0n, length: 0x20, on: 'write' },
      { address: BigInt(SOMEWHERE), length: 4096, on: 'access', physical: true },
      { address: BigInt(entry) + 7n, length: 1, on: 'write', physical: true },
      { address: BigInt(entry), length: 8, on: 'read', physical: true },
    );
    b.setX(a0, 0x1ffc)
      .enter(1, 0)
      .set('menvcfg', 1n << 61n)
      .run(1);
    assert.equal(b.get('scause') | b.get('mcause'), 15n);
    assert.deepEqual(hits, [{ id: 3, hart: 0, address: BigInt(entry), length: 8, access: 'write', steps: 0n }]);
    // With both pages there.
    hits.length = 0;
    b.map(2, SOMEWHERE + 0x3000, ALL)
      .enter(1, 0)
      .run(1);
    assert.deepEqual(hits, [
      { id: 1, hart: 0, address: 0x1ffcn, length: 8, access: 'write', steps: 1n },
      { id: 2, hart: 0, address: BigInt(SOMEWHERE + 0xffc), length: 4, access: 'write', steps: 1n },
    ]);
  },
);

bench(
  'an instruction whose own page gets its accessed flag',
  (a) => {
    a.op('addi', { rd: a0, rs1: a0, imm: 1 });
    a.op('addi', { rd: a0, rs1: a0, imm: 1 });
  },
  (b) => {
    b.sv39()
      .map(0, BASE, PTE.V | PTE.X)
      .set('menvcfg', 1n << 61n)
      .enter(1, 0);
    const id = b.machine.watchpoints.add({ address: BigInt(b.entry(0)), length: 1, on: 'write', physical: true });
    assert.deepEqual(b.machine.run(2), {
      reason: 'watchpoint',
      hart: 0,
      ids: [id],
      address: BigInt(b.entry(0)),
      access: 'write',
    });
    // Behind the instruction that was fetched.
    assert.equal(b.x(a0), 1n);
    assert.equal(b.machine.totalSteps, 1n);
    assert.deepEqual(b.machine.run(1), { reason: 'steps' });
    assert.equal(b.x(a0), 2n);
  },
);

bench(
  "a device's registers, and what is no device",
  (a) => {
    a.op('sb', { rs1: a0, rs2: a1 });
    a.op('lb', { rd: a2, rs1: a0, imm: 5 });
    a.op('ld', { rd: a2, rs1: t0 });
  },
  (b) => {
    b.setX(a0, 0x1000_0000).setX(t0, 0x1234_0000);
    const hits = noted(
      b,
      { address: 0x1000_0000n, length: 8, on: 'access' },
      { address: 0x1000_0005n, length: 1, on: 'access', physical: true },
      { address: 0x1234_0000n, length: 8, on: 'access' },
      { address: 0x1234_0000n, length: 8, on: 'access', physical: true },
    );
    b.run(3);
    assert.equal(b.trap()?.cause, 5n);
    assert.deepEqual(
      hits.map(({ id, steps, access }) => [id, steps, access]),
      [
        [1, 0n, 'write'],
        [1, 1n, 'read'],
        [2, 1n, 'read'],
      ],
    );
  },
);

/** Writes to registers of the entropy device that have it fill a buffer. */
function askForEntropy(a: Assembler): void {
  const { base, stride, slots } = PLATFORM.virtio;
  a.li(t0, base + (slots - 2) * stride);
  const put = (offset: number, value: number) => {
    a.li(t1, value);
    a.op('sw', { rs1: t0, rs2: t1, imm: offset });
  };
  const rings = SOMEWHERE;
  for (const [offset, value] of [
    ...[
      [0x70, 3],
      [0x24, 1],
      [0x20, 1],
      [0x70, 11],
      [0x30, 0],
      [0x38, 8],
    ],
    ...[
      [0x80, rings],
      [0x84, 0],
      [0x90, rings + 0x1000],
      [0x94, 0],
      [0xa0, rings + 0x2000],
      [0xa4, 0],
    ],
    ...[
      [0x44, 1],
      [0x70, 15],
      [0x50, 0],
    ],
  ] as const)
    put(offset!, value!);
  for (let n = 0; n < 50; n++) a.op('addi', { rd: a0, rs1: a0, imm: 1 });
}

bench('what a device writes', askForEntropy, (b) => {
  const buffer = SOMEWHERE + 0x3000;
  b.setU64(SOMEWHERE, BigInt(buffer))
    .setU64(SOMEWHERE + 8, 16n | (2n << 32n))
    .setU64(SOMEWHERE + 0x1000, 1n << 16n);
  const { watchpoints } = b.machine;
  const hits: [bigint, number | undefined][] = [];
  const listener = (address: number) => hits.push([BigInt(address), undefined]);
  b.machine.ram.onWrite.add(listener);
  const ids = [
    watchpoints.add({ address: BigInt(buffer) + 3n, length: 1, on: 'write', physical: true }),
    // Where nothing is translated.
    watchpoints.add({ address: BigInt(buffer), length: 1, on: 'access' }),
  ];
  watchpoints.add({ address: BigInt(buffer), length: 8, on: 'read', physical: true });
  watchpoints.add({ address: BigInt(buffer) + 16n, length: 8, on: 'access', physical: true });
  watchpoints.add({ address: BigInt(buffer), length: 8, on: 'write', satp: 7n });
  let steps = 0n;
  watchpoints.add({
    address: BigInt(buffer),
    length: 1,
    on: 'write',
    physical: true,
    hit: (hit) => {
      steps = hit.steps;
      return false;
    },
  });
  const before = forkPoint(b.machine);
  const stop = b.machine.run(200);
  assert.deepEqual(stop, { reason: 'watchpoint', hart: undefined, ids, address: BigInt(buffer), access: 'write' });
  assert.notEqual(b.u64(buffer), 0n);
  assert.ok(hits.some(([address]) => address === BigInt(buffer)));
  assert.deepEqual(b.machine.run(10), { reason: 'steps' });
  // Behind the step that it belongs to it is there, and before it not.
  watchpoints.clear();
  becomeForkPoint(b.machine, before);
  freeForkPoint(b.machine.engine.pool, before);
  b.run(Number(steps));
  assert.equal(b.u64(buffer), 0n);
  b.run(1);
  assert.notEqual(b.u64(buffer), 0n);
});

test('what the firmware writes, at the step of the call', () => {
  const a = new Assembler(BASE + 0x20_0000);
  a.li(17, 0x4442434e);
  a.li(16, 1);
  a.li(a0, 16);
  a.li(a1, SOMEWHERE);
  a.op('addi', { rd: a2 });
  const call = a.here;
  a.op('ecall');
  a.op('addi', { rd: t0, imm: 1 });
  const make = () => {
    const machine = bareMachine(a.bytes(), { boot: { kind: 'linux', kernel: a.bytes(), flat: true } });
    machine.input({ kind: 'console', bytes: new TextEncoder().encode('typed') });
    return machine;
  };
  const single = make();
  while (single.hartSet.get(0, 'pc') !== call) runSteps(single, 1);
  const at = single.totalSteps;
  single.free();
  const machine = make();
  const steps: bigint[] = [];
  machine.ram.onWrite.add(() => steps.push(machine.stepsNow));
  const id = machine.watchpoints.add({ address: BigInt(SOMEWHERE) + 4n, length: 1, on: 'write', physical: true });
  const stop = machine.run(1000);
  assert.deepEqual(stop, {
    reason: 'watchpoint',
    hart: undefined,
    ids: [id],
    address: BigInt(SOMEWHERE),
    access: 'write',
  });
  assert.deepEqual(steps, [at]);
  assert.equal(machine.totalSteps, at + 1n);
  assert.equal(machine.stepsNow, at + 1n);
  machine.free();
});

bench(
  'what the host writes: while the machine runs, and not between runs',
  (a) => {
    a.label('loop');
    a.jump(0, 'loop');
  },
  (b) => {
    const hits = noted(b, { address: BigInt(SOMEWHERE), length: 8, on: 'write', physical: true });
    b.run(10).setU64(SOMEWHERE, 7n);
    assert.deepEqual(hits, []);
    b.run(10);
    assert.deepEqual(hits, []);
    b.machine.breakpoints.add({ address: BigInt(BASE), condition: () => !b.setU64(SOMEWHERE, 8n) });
    b.run(1);
    assert.deepEqual(hits, [
      { id: 1, hart: undefined, address: BigInt(SOMEWHERE), length: 8, access: 'write', steps: 20n },
    ]);
  },
);

bench(
  'a watchpoint that is gone, one that was never there, and ones that make no sense',
  (a) => {
    a.label('loop');
    a.op('sd', { rs1: a0, rs2: a1 });
    a.jump(0, 'loop');
  },
  (b) => {
    const { watchpoints } = b.setX(a0, SOMEWHERE).machine;
    const at = { address: BigInt(SOMEWHERE), length: 8, on: 'write' } as const;
    const one = watchpoints.add(at);
    const two = watchpoints.add({ ...at, physical: true });
    const stop = (ids: number[]) => ({
      reason: 'watchpoint',
      hart: 0,
      ids,
      address: BigInt(SOMEWHERE),
      access: 'write',
    });
    assert.deepEqual(b.machine.run(10), stop([one, two]));
    assert.equal(watchpoints.delete(one), true);
    assert.equal(watchpoints.delete(one), false);
    assert.deepEqual(b.machine.run(10), stop([two]));
    watchpoints.clear();
    assert.equal(watchpoints.size, 0);
    assert.deepEqual(b.machine.run(10), { reason: 'steps' });
    assert.equal(b.machine.trace, undefined);
    assert.equal(b.machine.ram.onWrite.size, 0);
    for (const wrong of [
      { length: 0 },
      { length: 2 ** 20 + 1 },
      { length: 1.5 },
      { address: -1n },
      { address: 1n << 64n },
      { address: (1n << 64n) - 4n },
      { satp: 0n, physical: true },
      { satp: -1n },
      { on: 'execute' as 'read' },
    ])
      assert.throws(() => watchpoints.add({ ...at, ...wrong }), MachineError);
    assert.equal(watchpoints.size, 0);
  },
);

bench(
  'one that is added while the machine runs; a question that throws',
  (a) => {
    a.label('loop');
    a.op('sd', { rs1: a0, rs2: a1 });
    a.op('ld', { rd: a1, rs1: a0, imm: 8 });
    a.jump(0, 'loop');
  },
  (b) => {
    const { watchpoints, breakpoints } = b.setX(a0, SOMEWHERE).machine;
    b.run(3000);
    breakpoints.add({
      address: BigInt(BASE + 4),
      condition: () => {
        if (watchpoints.size === 0) watchpoints.add({ address: BigInt(SOMEWHERE) + 8n, length: 1, on: 'read' });
        return false;
      },
    });
    assert.deepEqual(b.machine.run(3), {
      reason: 'watchpoint',
      hart: 0,
      ids: [1],
      address: BigInt(SOMEWHERE) + 8n,
      access: 'read',
    });
    assert.equal(b.machine.totalSteps, 3002n);
    breakpoints.clear();
    watchpoints.clear();
    watchpoints.add({
      address: BigInt(SOMEWHERE),
      length: 1,
      on: 'write',
      hit: () => {
        throw new RangeError('no');
      },
    });
    assert.throws(() => b.machine.run(10), RangeError);
    assert.equal(b.machine.totalSteps, 3004n);
    assert.throws(() => b.machine.run(10), RangeError);
    assert.equal(b.machine.totalSteps, 3007n);
  },
);

bench(
  'a step that fails is told when it is made',
  (a) => {
    a.op('sd', { rs1: a0, rs2: a1 });
  },
  (b) => {
    const hits = noted(b, { address: BigInt(SOMEWHERE), length: 8, on: 'write' });
    let fails = 1;
    b.machine.traces.add({
      touched: (_low, _high, _page, access) => {
        if (access === 'write' && fails-- > 0) throw new RangeError('no');
        return false;
      },
    });
    b.setX(a0, SOMEWHERE).setX(a1, 3);
    assert.throws(() => b.machine.run(1), RangeError);
    assert.equal(b.machine.totalSteps, 0n);
    assert.deepEqual(hits, []);
    b.run(1);
    assert.equal(b.u64(SOMEWHERE), 3n);
    assert.equal(hits.length, 1);
  },
);

bench(
  'an atomic instruction reads where there are stores as well',
  (a) => {
    a.label('loop');
    a.op('sd', { rs1: a0, rs2: a1 });
    a.op('amoadd.w', { rd: a2, rs1: a0, rs2: a1 });
    a.op('amoadd.w', { rd: a2, rs1: t0, rs2: a1 });
    a.jump(0, 'loop');
  },
  (b) => {
    b.setX(a0, SOMEWHERE).setX(t0, SOMEWHERE + 8);
    const hits = noted(b, { address: BigInt(SOMEWHERE) + 2n, length: 1, on: 'read' });
    b.run(4000);
    const told = hits.map(({ steps, access }) => [steps, access]);
    assert.deepEqual(
      told,
      Array.from({ length: 1000 }, (_, turn) => [BigInt(4 * turn + 1), 'update']),
    );
  },
);

test('watchpoints of one machine say nothing to another on the same engine', () => {
  const program = new Assembler(BASE);
  program.label('loop');
  program.op('sd', { rs1: a0, rs2: a1 });
  program.jump(0, 'loop');
  const machines = [plainMachine(program.bytes()), plainMachine(program.bytes())] as const;
  for (const machine of machines) machine.hartSet.record(0).setX(a0, BigInt(SOMEWHERE));
  machines[0].watchpoints.add({ address: BigInt(SOMEWHERE), length: 8, on: 'write' });
  for (let turn = 0; turn < 3; turn++) {
    assert.equal(machines[0].run(100).reason, 'watchpoint');
    assert.deepEqual(machines[1].run(100), { reason: 'steps' });
  }
  for (const machine of machines) machine.free();
});

bench(
  'a log of accesses by bytes and watchpoints, at the same time',
  (a) => {
    a.op('sd', { rs1: a0, rs2: a1 });
    a.op('lw', { rd: a1, rs1: a0, imm: 16 });
    a.op('amoadd.d', { rd: a2, rs1: t0, rs2: a1 });
    a.op('sd', { rs1: a0, rs2: a1 });
    a.op('lb', { rd: a1, rs1: t1 });
  },
  (b) => {
    b.setX(a0, SOMEWHERE)
      .setX(t0, SOMEWHERE + 32)
      .setX(t1, SOMEWHERE + 0x1000);
    const hits = noted(b, { address: BigInt(SOMEWHERE), length: 48, on: 'access' });
    const log = new AccessLog(
      b.machine,
      { privilege: 3n, satp: 0n, hart: 0 },
      (page) => page === BigInt(SOMEWHERE) >> 12n,
    );
    b.run(5);
    log.end();
    assert.deepEqual(
      hits.map(({ steps, access }) => [steps, access]),
      [
        [0n, 'write'],
        [1n, 'read'],
        [2n, 'update'],
        [3n, 'write'],
      ],
    );
    const bytes = log.pages.get(BigInt(SOMEWHERE) >> 12n)!.bytes!;
    const marks = [0, 8, 16, 20, 32, 40].map((at) => bytes[at]);
    assert.deepEqual(marks, [WRITTEN, 0, READ, 0, READ | WRITTEN, 0]);
    assert.deepEqual(log.pages.get((BigInt(SOMEWHERE) >> 12n) + 1n)?.read, true);
    b.enter(3, BASE).run(1);
    assert.equal(hits.length, 5);
  },
);

describe('stepsNow', () => {
  const pool = new Pool();
  const engines = [false, { hotness: 5, batch: 3, patience: 2 }, { hotness: 1, batch: 1, patience: 1 }].map(
    (translate, worker) => new Engine(pool, worker, { translate }),
  );
  const STEPS = 4000;

  test(`is the step of every access that a listener hears of (seed ${SEED})`, () => {
    const recipe = fc.record({
      harts: fc.integer({ min: 1, max: 3 }),
      paged: fc.boolean(),
      seed: fc.nat(),
      turns: fc.constant(30),
    });
    fc.assert(
      fc.property(recipe, fc.constantFrom(37, 1000, 20_000), fc.nat({ max: 2 }), (recipe, slice, mode) => {
        const image = loopProgram(recipe);
        const options = { harts: recipe.harts, slice };
        const traced = bareMachine(image, options, {}, engines[0]!);
        const executed = accesses(traced, STEPS, { address: 0x8000_1000, length: 0x3000 });
        const end = Number(traced.totalSteps);
        const expected = new Map(executed.map(({ steps, hart, parts }) => [steps, { hart, parts }]));

        const outputs: bigint[] = [];
        const machine = bareMachine(
          image,
          options,
          { console: () => outputs.push(machine.stepsNow - machine.totalSteps) },
          engines[mode]!,
        );
        const heard = new Map<bigint, { hart: number; parts: [bigint, number, AccessKind][] }>();
        machine.traces.add({
          touched: (low, high, _page, access, size) => {
            const steps = machine.stepsNow;
            if (size === 0 || access === 'walk' || !expected.has(steps)) return false;
            const at = heard.get(steps) ?? { hart: machine.schedule.hart, parts: [] };
            heard.set(steps, at);
            at.parts.push([addressOf(low, high), size, access]);
            return false;
          },
        });
        runSteps(machine, end);
        assert.equal(machine.stepsNow, machine.totalSteps);
        const wanted = [...expected].flatMap(([steps, { hart, parts }]) =>
          parts.length === 0
            ? []
            : [[steps, { hart, parts: parts.map(({ va, length, access }) => [va, length, access]) }]],
        );
        assert.deepEqual([...heard], wanted);
        assert.equal(stateHash(machine), stateHash(traced));
        assert.ok(outputs.every((difference) => difference === 0n));
        machine.free();
        traced.free();
      }),
      runs(40),
    );
  });

  for (const [mode, engine] of engines.entries()) {
    test(`is the step of a breakpoint that asks, engine ${mode}`, () => {
      const a = new Assembler(BASE);
      a.label('loop');
      for (let n = 0; n < 5; n++) a.op('addi', { rd: a0, rs1: a0, imm: 1 });
      a.jump(0, 'loop');
      const machine = plainMachine(a.bytes(), { harts: 2, slice: 100 }, engine);
      runSteps(machine, 1000);
      const seen: [number, bigint, bigint][] = [];
      machine.breakpoints.add({
        address: BigInt(BASE + 8),
        condition: (hart) => {
          const turns = (machine.hartSet.getX(hart, a0) - 2n) / 5n;
          seen.push([hart, machine.stepsNow, 6n * turns + 2n]);
          return false;
        },
      });
      runSteps(machine, 1000);
      assert.ok(seen.length > 100);
      for (const [hart, now, own] of seen) {
        // Slices of 100 steps by turns.
        const [rounds, rest] = [own / 100n, own % 100n];
        assert.equal(now, rounds * 200n + BigInt(hart) * 100n + rest);
      }
      machine.free();
    });
  }
});
