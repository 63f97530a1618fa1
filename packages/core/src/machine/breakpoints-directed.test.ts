/** Breakpoints in small programs, one question each. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Engine } from '../engine/engine.ts';
import type { PortableModule } from '../engine/translator/installer.ts';
import { MENVCFG } from '../hart/state.ts';
import { Pool } from '../memory/pool.ts';
import { Assembler } from '../testing/assembler.ts';
import { plainMachine } from '../testing/bare.ts';
import { BASE, Bench, bench } from '../testing/directed.ts';
import { bareMachine } from '../testing/machines.ts';
import { ALL, PTE, pte } from '../testing/page-tables.ts';
import { stateHash } from './hash.ts';
import type { Machine } from './machine.ts';

const [a0, a1, a2] = [10, 11, 12] as const;
const compressed = (rd: number, imm: number) => 0x0001 | (rd << 7) | ((imm & 31) << 2);

/** A loop that begins before the end of a page, on `BASE`; one instruction lies across. The interpreter joins some of it. */
const LOOP = BASE + 0xff0;
const INSTRUCTIONS: readonly (readonly [offset: number, write: (a: Assembler) => void])[] = [
  [0, (a) => a.op('addi', { rd: a0, rs1: a0, imm: 1 })],
  [4, (a) => a.half(compressed(a1, 3))],
  [6, (a) => a.half(compressed(a0, 2))],
  [8, (a) => a.op('xor', { rd: a2, rs1: a0, rs2: a1 })],
  [12, (a) => a.half(compressed(a1, 1))],
  [14, (a) => a.op('sub', { rd: a1, rs1: a2, rs2: a1 })],
  [18, (a) => a.half(compressed(a2, 5))],
  [20, (a) => a.branch('bge', 0, 0, 'loop')],
];

function loop(): Uint8Array {
  const a = new Assembler(BASE);
  a.jump(0, 'loop');
  a.org(LOOP);
  a.label('loop');
  for (const [, write] of INSTRUCTIONS) write(a);
  return a.bytes();
}

const EARLY = { hotness: 2, batch: 1, patience: 1 };
const ENGINES = { interpreted: false, translated: EARLY } as const;

for (const [what, translate] of Object.entries(ENGINES)) {
  describe(`a hot loop, ${what}`, () => {
    const pool = new Pool();
    const engine = new Engine(pool, 0, { translate });
    for (const [n, [offset]] of INSTRUCTIONS.entries()) {
      test(`stops at the instruction at ${offset}, every turn, and not when the breakpoint is gone`, () => {
        const machine = plainMachine(loop(), {}, engine);
        const plain = plainMachine(loop(), {}, engine);
        machine.run(2000);
        const address = BigInt(LOOP + offset);
        const id = machine.breakpoints.add({ address });
        // The first turn of which all is still to come.
        const first = 1 + INSTRUCTIONS.length * Math.ceil((1999 - n) / INSTRUCTIONS.length) + n;
        for (let turn = 0; turn < 5; turn++) {
          assert.deepEqual(machine.run(100), { reason: 'breakpoint', hart: 0, address, ids: [id] });
          assert.equal(machine.totalSteps, BigInt(first + turn * INSTRUCTIONS.length));
          plain.run(Number(machine.totalSteps - plain.totalSteps));
          assert.equal(stateHash(machine), stateHash(plain));
        }
        assert.ok(machine.breakpoints.delete(id));
        const before = engine.translation.regions;
        assert.deepEqual(machine.run(5000), { reason: 'steps' });
        assert.equal(engine.translation.regions > before, translate !== false);
        machine.free();
        plain.free();
      });
    }

    test('stops at all of them, each once, and a limit comes before', () => {
      const machine = plainMachine(loop(), {}, engine);
      machine.run(1000);
      for (const [offset] of INSTRUCTIONS) machine.breakpoints.add({ address: BigInt(LOOP + offset) });
      for (let step = 1000; step < 1030; step++) {
        assert.equal(machine.run(100).reason, 'breakpoint');
        assert.equal(machine.totalSteps, BigInt(step));
        assert.deepEqual(machine.run(1), { reason: 'steps' });
      }
      machine.breakpoints.clear();
      assert.deepEqual(machine.run(1000), { reason: 'steps' });
      machine.free();
    });

    test('is not stopped by breakpoints of another machine', () => {
      const one = plainMachine(loop(), {}, engine);
      const other = plainMachine(loop(), {}, engine);
      one.breakpoints.add({ address: BigInt(LOOP) });
      for (let turn = 0; turn < 3; turn++) {
        assert.equal(one.run(1000).reason, 'breakpoint');
        assert.deepEqual(other.run(1000), { reason: 'steps' });
      }
      one.free();
      assert.deepEqual(other.run(1000), { reason: 'steps' });
      other.free();
    });

    test('goes on where the condition says no; it is asked once a turn, and sees the registers', () => {
      const machine = plainMachine(loop(), {}, engine);
      const seen: bigint[] = [];
      machine.breakpoints.add({
        address: BigInt(LOOP + 4),
        condition: (hart) => {
          seen.push(machine.hartSet.getX(hart, a0));
          return seen.length % 10 === 0;
        },
      });
      const stop = machine.run();
      assert.equal(stop.reason, 'breakpoint');
      assert.deepEqual(
        seen,
        Array.from({ length: 10 }, (_, turn) => BigInt(3 * turn + 1)),
      );
      assert.equal(machine.run().reason, 'breakpoint');
      assert.equal(seen.length, 20);
      machine.free();
    });

    test('stands before the instruction when a condition throws', () => {
      const machine = plainMachine(loop(), {}, engine);
      machine.run(1000);
      const id = machine.breakpoints.add({
        address: BigInt(LOOP + 4),
        condition: () => {
          throw new RangeError('no');
        },
      });
      assert.throws(() => machine.run(100), RangeError);
      assert.equal(machine.hartSet.get(0, 'pc'), BigInt(LOOP + 4));
      const { totalSteps } = machine;
      assert.throws(() => machine.run(100), RangeError);
      assert.equal(machine.totalSteps, totalSteps);
      machine.breakpoints.delete(id);
      const plain = plainMachine(loop(), {}, engine);
      plain.run(Number(totalSteps) + 100);
      machine.run(100);
      assert.equal(stateHash(machine), stateHash(plain));
      machine.free();
      plain.free();
    });
  });
}

test('breakpoints that are set while the machine runs are hit in the same run', () => {
  const engine = new Engine(new Pool(), 0, { translate: EARLY });
  const machine = plainMachine(loop(), {}, engine);
  let turns = 0;
  machine.breakpoints.add({
    address: BigInt(LOOP),
    condition: () => {
      if (++turns === 50) machine.breakpoints.add({ address: BigInt(LOOP + 14) });
      return false;
    },
  });
  assert.deepEqual(machine.run(), { reason: 'breakpoint', hart: 0, address: BigInt(LOOP + 14), ids: [2] });
  assert.equal(machine.totalSteps, BigInt(1 + 49 * INSTRUCTIONS.length + 5));
  machine.free();
});

test('modules of another worker are not taken where the host has to be asked', () => {
  const pool = new Pool();
  const modules: PortableModule[] = [];
  const sender = new Engine(pool, 0, { translate: EARLY, onModule: (module) => modules.push(module) });
  const first = plainMachine(loop(), {}, sender);
  first.run(2000);
  assert.ok(modules.length > 0);
  const take = (offset: number | undefined) => {
    const receiver = new Engine(pool, 1, { translate: { hotness: 30_000 } });
    const machine = plainMachine(loop(), {}, receiver);
    pool.words[machine.ram.directory >>> 2] = pool.words[first.ram.directory >>> 2]!;
    pool.retain(pool.words[first.ram.directory >>> 2]!);
    if (offset !== undefined) machine.breakpoints.add({ address: BigInt(LOOP + offset) });
    machine.run(100);
    const installed = modules.reduce((sum, module) => sum + receiver.install(module), 0);
    const { reason } = machine.run(100);
    machine.free();
    receiver.dropCaches();
    return { installed, reason };
  };
  const all = modules.reduce((sum, { regions }) => sum + regions.length, 0);
  assert.deepEqual(take(undefined), { installed: all, reason: 'steps' });
  for (const [offset] of INSTRUCTIONS) assert.deepEqual(take(offset), { installed: 0, reason: 'breakpoint' });
});

bench(
  'two names of one frame: only the one with the breakpoint stops',
  (a) => {
    a.op('addi', { rd: a0, rs1: a0, imm: 1 });
    a.op('addi', { rd: a0, rs1: a0, imm: 2 });
    a.op('jalr', { rs1: 1 });
  },
  (b) => {
    b.sv39().map(1, BASE, ALL).map(2, BASE, ALL);
    const { breakpoints } = b.machine;
    const id = breakpoints.add({ address: 0x2004n });
    const turn = (page: bigint) =>
      b
        .setX(1, page << 12n)
        .enter(1, page << 12n)
        .machine.run(6);
    assert.deepEqual(turn(1n), { reason: 'steps' });
    assert.deepEqual(turn(2n), { reason: 'breakpoint', hart: 0, address: 0x2004n, ids: [id] });
    assert.deepEqual(turn(1n), { reason: 'steps' });
    // Another frame comes to the address.
    b.write(BASE + 0x1000, b.read(BASE, 12)).map(2, BASE + 0x1000, ALL);
    assert.equal(turn(2n).reason, 'breakpoint');
    b.map(2, BASE, ALL);
    assert.equal(turn(2n).reason, 'breakpoint');
    assert.equal(breakpoints.delete(id), true);
    assert.equal(breakpoints.delete(id), false);
    assert.deepEqual(turn(2n), { reason: 'steps' });
  },
);

bench(
  'satp chooses the address space',
  (a) => {
    a.op('addi', { rd: a0, rs1: a0, imm: 1 });
    a.op('jalr', { rs1: 1 });
  },
  (b) => {
    b.sv39().map(1, BASE, ALL);
    const one = b.get('satp');
    // Another root over the same tables, and the same root by another number.
    const root = 0x8090_0000;
    b.setU64(root, pte(0x8080_1000, PTE.V));
    const two = (8n << 60n) | BigInt(root >>> 12);
    const three = one | (7n << 44n);
    const ids = [one, two, three, undefined].map((satp) =>
      b.machine.breakpoints.add({ address: 0x1000n, ...(satp !== undefined && { satp }) }),
    );
    for (const [n, satp] of [one, two, three].entries()) {
      const stop = b.set('satp', satp).setX(1, 0x1000).enter(1, 0x1004).machine.run(6);
      assert.deepEqual(stop, { reason: 'breakpoint', hart: 0, address: 0x1000n, ids: [ids[n], ids[3]] });
    }
    b.machine.breakpoints.delete(ids[3]!);
    b.machine.breakpoints.delete(ids[1]!);
    assert.deepEqual(b.set('satp', two).enter(1, 0x1004).machine.run(6), { reason: 'steps' });
    // M-mode translates nothing.
    const bare = b.machine.breakpoints.add({ address: BigInt(BASE), satp: 0n });
    b.machine.breakpoints.add({ address: BigInt(BASE), satp: two });
    assert.deepEqual(
      b
        .setX(1, BASE)
        .enter(3, BASE + 4)
        .machine.run(6),
      {
        reason: 'breakpoint',
        hart: 0,
        address: BigInt(BASE),
        ids: [bare],
      },
    );
  },
);

/** Equal machines, one of them stopped by a breakpoint where the other stops by its limit. */
function alike(make: () => Bench, address: bigint, steps: number): void {
  const [limited, stopped] = [make(), make()];
  limited.run(steps);
  stopped.machine.breakpoints.add({ address });
  assert.equal(stopped.machine.run().reason, 'breakpoint');
  const states = () =>
    [limited, stopped].map(({ machine }) => ({ steps: machine.totalSteps, hash: stateHash(machine) }));
  const [before, there] = states();
  assert.deepEqual(there, before);
  stopped.machine.breakpoints.clear();
  for (const { machine } of [limited, stopped]) machine.run(5);
  const [after, then] = states();
  assert.deepEqual(then, after);
  limited.free();
  stopped.free();
}

test('a stop at the first instruction of a page has not set its accessed bit', () => {
  const make = () => {
    const b = new Bench((a) => {
      a.op('addi', { rd: a0, rs1: a0, imm: 1 });
      a.op('jalr', { rs1: 1 });
      a.org(BASE + 0x1000);
      for (let n = 0; n < 10; n++) a.op('addi', { rd: a0, rs1: a0, imm: 1 });
    });
    b.sv39()
      .map(1, BASE, ALL)
      .map(2, BASE + 0x1000, ALL & ~PTE.A);
    return b.set('menvcfg', MENVCFG.ADUE).setX(1, 0x2000).enter(1, 0x1000);
  };
  alike(make, 0x2000n, 2);
  // The second half of an instruction is not walked for either.
  const across = () => {
    const b = make();
    b.write(BASE + 0xffe, Uint8Array.of(0x13, 0x05, 0x15, 0x00));
    return b.setX(1, 0x1ffe);
  };
  alike(across, 0x1ffen, 2);
});

bench(
  'what is no instruction is stopped at before it traps',
  (a) => a.half(0),
  (b) => {
    b.machine.engine.dropCaches();
    b.machine.breakpoints.add({ address: BigInt(BASE) });
    assert.equal(b.machine.run(5).reason, 'breakpoint');
    assert.equal(b.trap(), undefined);
    assert.deepEqual(b.run(1).trap(), { cause: 2n, epc: BigInt(BASE), tval: 0n });
  },
);

test('a page fault is no hit, and the instruction is one when its page has come', () => {
  const b = new Bench((a) => a.op('addi', { rd: a0, rs1: a0, imm: 1 }));
  b.sv39()
    .map(1, BASE, ALL & ~PTE.V)
    .enter(1, 0x1000);
  b.machine.breakpoints.add({ address: 0x1000n });
  assert.deepEqual(b.machine.run(3), { reason: 'steps' });
  assert.equal(b.trap()?.epc, 0x1000n);
  b.map(1, BASE, ALL).enter(1, 0x1000);
  assert.equal(b.machine.run(3).reason, 'breakpoint');
  b.free();
});

test('a stop where a timer is due is as a limit there', () => {
  const make = () =>
    new Bench((a) => {
      for (let n = 0; n < 300; n++) a.op('addi', { rd: a0, rs1: a0, imm: 1 });
    })
      .set('menvcfg', MENVCFG.STCE)
      .set('stimecmp', 2n);
  for (const steps of [199, 200, 201]) alike(make, BigInt(BASE + 4 * steps), steps);
});

test('code that is stored over a breakpoint is what is stopped at', () => {
  const b = new Bench((a) => {
    a.label('again');
    a.op('sw', { rs1: a1, rs2: a2 });
    a.op('addi', { rd: a0, rs1: a0, imm: 1 });
    a.op('jal', { imm: -8 });
  });
  b.setX(a1, BASE + 4);
  b.machine.breakpoints.add({ address: BigInt(BASE + 4) });
  for (let n = 1; n < 10; n++) {
    const imm = n % 3;
    // addi a0, a0, imm; at times as its first half is another compressed instruction with something behind it.
    b.setX(a2, n % 4 === 0 ? compressed(a0, 7) | (compressed(a0, 1) << 16) : 0x0005_0513 | (imm << 20));
    const before = b.x(a0);
    assert.equal(b.machine.run().reason, 'breakpoint');
    b.run(1);
    assert.equal(b.x(a0) - before, n % 4 === 0 ? 7n : BigInt(imm));
    if (n % 4 === 0) b.run(1);
  }
  b.free();
});

test('a stop is told again when an output threw instead', () => {
  const a = new Assembler(BASE);
  a.li(a1, 0x1000_0000);
  a.op('sb', { rs1: a1, rs2: a1 });
  a.label('here');
  a.op('addi', { rd: a0, rs1: a0, imm: 1 });
  let broken = true;
  const console = () => {
    if (broken) throw new RangeError('no');
  };
  const machine = bareMachine(a.bytes(), {}, { console });
  machine.breakpoints.add({ address: a.addressOf('here') });
  assert.throws(() => machine.run(), RangeError);
  broken = false;
  assert.equal(machine.run().reason, 'breakpoint');
  assert.equal(machine.hartSet.getX(0, a0), 0n);
  machine.free();
});

test('what is no place for a breakpoint is refused', () => {
  const b = new Bench((a) => a.op('wfi'));
  const refused: [bigint, bigint?][] = [[1n], [-2n], [1n << 64n], [0n, -1n], [0n, 1n << 64n]];
  for (const [address, satp] of refused) {
    const add = () => b.machine.breakpoints.add({ address, ...(satp !== undefined && { satp }) });
    assert.throws(add, { code: 'ERR_BRAID_MACHINE' });
  }
  assert.throws(() => b.machine.breakpoints.add({ address: 4 as unknown as bigint }), { code: 'ERR_BRAID_MACHINE' });
  assert.equal(b.machine.breakpoints.size, 0);
  b.free();
});

test('many are set and taken away as one, or none when one is wrong', () => {
  const b = new Bench((a) => {
    a.label('again');
    a.op('addi', { rd: a0, rs1: a0, imm: 1 });
    a.op('addi', { rd: a1, rs1: a1, imm: 1 });
    a.jump(0, 'again');
  });
  const { breakpoints } = b.machine;
  assert.throws(() => breakpoints.addAll([{ address: BigInt(BASE) }, { address: 1n }]), { code: 'ERR_BRAID_MACHINE' });
  assert.equal(breakpoints.size, 0);
  assert.deepEqual(breakpoints.addAll([]), []);
  const ids = breakpoints.addAll([BASE, BASE + 4, BASE].map((address) => ({ address: BigInt(address) })));
  assert.equal(new Set(ids).size, 3);
  const hits = [b.machine.run(10), b.machine.run(10)].map((stop) => stop.reason === 'breakpoint' && stop.ids);
  assert.deepEqual(hits, [[ids[0], ids[2]], [ids[1]]]);
  assert.equal(breakpoints.deleteAll([ids[0]!, ids[1]!, 999]), 2);
  assert.deepEqual(b.machine.run(10), { reason: 'breakpoint', hart: 0, address: BigInt(BASE), ids: [ids[2]] });
  assert.equal(breakpoints.deleteAll(ids), 1);
  assert.deepEqual(b.machine.run(10), { reason: 'steps' });
  b.free();
});

test('several harts stop one after the other, in the order of the schedule', () => {
  const b = new Bench(
    (a) => {
      a.label('again');
      a.op('addi', { rd: a0, rs1: a0, imm: 1 });
      a.jump(0, 'again');
    },
    { harts: 3, slice: 7 },
  );
  b.machine.breakpoints.add({ address: BigInt(BASE) });
  const found: [number, number][] = [];
  for (let n = 0; n < 12; n++) {
    const stop = b.machine.run() as Extract<ReturnType<Machine['run']>, { reason: 'breakpoint' }>;
    found.push([stop.hart, b.machine.position.step]);
  }
  const even = (hart: number): [number, number][] => [0, 2, 4, 6].map((step) => [hart, step]);
  assert.deepEqual(found, [0, 1, 2].flatMap(even));
  b.free();
});
