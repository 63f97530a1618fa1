/** Guest RAM: absent and remote pages, leaves and frames shared by machines, and what a write from outside invalidates. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { stateHash } from '../machine/hash.ts';
import { formatPosition } from '../machine/log.ts';
import type { Machine } from '../machine/machine.ts';
import { restoreMachine, saveMachine } from '../machine/save.ts';
import { Assembler, encode, rowOf } from '../testing/assembler.ts';
import { bareMachine, MEMORY, recipeMachine, runSteps, runs, SEED, sharedEngine } from '../testing/machines.ts';
import { buildProgram, type Recipe } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';
import type { PageSource } from './frame-map.ts';
import { ENTRY_FRAME, FRAME_HASHED, LEAF_PAGES, PAGE, RAM_BASE } from './layout.ts';
import { Pool, PoolFullError } from './pool.ts';
import { Ram } from './ram.ts';

const MIB = 2 ** 20;

/** A frame with this content. */
function filled(pool: Pool, content: Uint8Array): number {
  const frame = pool.allocate();
  pool.bytes.set(content, frame * PAGE);
  return frame;
}

describe('pages', () => {
  test('absent ones read as zero and stay absent; a write makes one present', () => {
    const pool = new Pool();
    const ram = new Ram(pool, 8 * MIB);
    const used = pool.used;
    const bytes = new Uint8Array(10_000).fill(7);
    assert.ok(ram.read(RAM_BASE + 5000, bytes));
    assert.ok(bytes.every((byte) => byte === 0));
    assert.equal(pool.used, used);
    assert.ok(ram.write(RAM_BASE + 4095, Uint8Array.of(1, 2)));
    assert.equal(pool.used, used + 2);
    assert.ok(ram.read(RAM_BASE + 4094, bytes.subarray(0, 4)));
    assert.deepEqual([...bytes.subarray(0, 4)], [0, 1, 2, 0]);
    ram.free();
    assert.equal(pool.used, 0);
  });

  test('ranges that are not wholly RAM are refused, and nothing happens', () => {
    const pool = new Pool();
    const ram = new Ram(pool, 4 * MIB);
    const used = pool.used;
    const bytes = new Uint8Array(16).fill(1);
    const end = RAM_BASE + 4 * MIB;
    for (const address of [
      0,
      RAM_BASE - 1,
      RAM_BASE - 16,
      end - 15,
      end,
      end + 4096,
      2 ** 52,
      -1,
      Number.NaN,
      Infinity,
    ]) {
      assert.equal(ram.read(address, bytes), false, `${address}`);
      assert.equal(ram.write(address, bytes), false, `${address}`);
    }
    assert.equal(pool.used, used);
    assert.ok(ram.write(end - 16, bytes));
  });

  test('remote ones are fetched once, at the first touch, whoever touches', () => {
    const pool = new Pool();
    const fetched: number[] = [];
    const source: PageSource = {
      frame(page) {
        fetched.push(page);
        return filled(pool, new Uint8Array(PAGE).fill(page));
      },
    };
    const ram = new Ram(pool, 8 * MIB, { source });
    for (const page of [3, 4, 1500]) ram.markRemote(page);
    const byte = new Uint8Array(1);
    ram.read(RAM_BASE + 3 * PAGE + 9, byte);
    assert.equal(byte[0], 3);
    ram.write(RAM_BASE + 4 * PAGE + 1, Uint8Array.of(99));
    ram.read(RAM_BASE + 4 * PAGE, byte);
    assert.equal(byte[0], 4);
    ram.read(RAM_BASE + 3 * PAGE, byte);
    assert.deepEqual(fetched, [3, 4]);
    ram.free();
    assert.equal(pool.used, 0);
  });

  test('a frame that the source keeps is copied by whoever writes it', () => {
    const pool = new Pool();
    const kept = filled(pool, new Uint8Array(PAGE).fill(7));
    const source: PageSource = {
      frame() {
        pool.retain(kept);
        return kept;
      },
    };
    const ram = new Ram(pool, 4 * MIB, { source });
    for (const page of [1, 2]) ram.markRemote(page);
    ram.write(RAM_BASE + PAGE, Uint8Array.of(9));
    const bytes = new Uint8Array(2);
    ram.read(RAM_BASE + PAGE, bytes);
    assert.deepEqual([...bytes], [9, 7]);
    ram.read(RAM_BASE + 2 * PAGE, bytes);
    assert.deepEqual([...bytes], [7, 7]);
    assert.equal(pool.references(kept), 2);
    ram.free();
    pool.release(kept);
    assert.equal(pool.used, 0);
  });

  test('a source that fails is asked again, and leaves no frame behind', () => {
    const pool = new Pool();
    let fails = true;
    const source = {
      frame() {
        if (fails) throw new Error('late');
        return pool.allocate();
      },
    };
    const ram = new Ram(pool, 4 * MIB, { source });
    ram.markRemote(5);
    const { used } = pool;
    assert.throws(() => ram.read(RAM_BASE + 5 * PAGE, new Uint8Array(1)), /late/);
    assert.equal(pool.used, used);
    fails = false;
    assert.ok(ram.read(RAM_BASE + 5 * PAGE, new Uint8Array(1)));
    assert.equal(pool.used, used + 1);
  });

  test('RAM that does not fit takes nothing', () => {
    const pool = new Pool(100);
    assert.throws(() => new Ram(pool, 1024 * MIB), PoolFullError);
    assert.equal(pool.used, 0);
  });
});

test('a machine whose pages come from a source equals one that has them', () => {
  const recipe: Recipe = { harts: 3, sbi: false, seed: SEED, rounds: 1000 };
  const first = recipeMachine(recipe, { slice: 500 });
  runSteps(first, 5000);
  const { ram, ...rest } = saveMachine(first);
  const content = new Map<number, Uint8Array>();
  for (const piece of ram) {
    for (const [i, page] of piece.pages.entries()) content.set(page, piece.content.subarray(i * PAGE, (i + 1) * PAGE));
  }
  const fetched = new Set<number>();
  const lazy = restoreMachine(sharedEngine(), { ...rest, ram: [] });
  const source: PageSource = {
    frame(page) {
      assert.ok(!fetched.has(page));
      fetched.add(page);
      return filled(lazy.engine.pool, content.get(page)!);
    },
  };
  // As a restorer that opens a manifest before its segments are here.
  Object.assign(lazy.ram, { source });
  for (const page of content.keys()) lazy.ram.markRemote(page);
  runSteps(first, 5000);
  runSteps(lazy, 5000);
  assert.ok(fetched.size > 0 && fetched.size < content.size, `${fetched.size} of ${content.size} pages fetched`);
  assert.equal(stateHash(lazy), stateHash(first));
  first.free();
  lazy.free();
});

const recipe: fc.Arbitrary<Recipe> = fc.record({
  harts: fc.integer({ min: 1, max: 4 }),
  sbi: fc.boolean(),
  seed: fc.integer({ min: 0, max: 0xffff_ffff }),
  rounds: fc.constant(200),
});
const summary = (machine: Machine) => ({ hash: stateHash(machine), position: formatPosition(machine.position) });

test('a shared page is copied when it is written, alone', () => {
  const pool = new Pool();
  const a = new Ram(pool, 4 * MIB);
  a.write(RAM_BASE, Uint8Array.of(1));
  a.write(RAM_BASE + PAGE, Uint8Array.of(2));
  const b = new Ram(pool, 4 * MIB, { roots: a.share() });
  const { used } = pool;
  const byteOf = (ram: Ram, page: number) => {
    const byte = new Uint8Array(1);
    ram.read(RAM_BASE + page * PAGE, byte);
    return byte[0];
  };
  assert.equal(byteOf(b, 1), 2);
  assert.equal(pool.used, used, 'reading copies nothing');
  b.write(RAM_BASE, Uint8Array.of(9));
  assert.equal(pool.used, used + 2, 'a leaf and a page');
  assert.deepEqual([byteOf(a, 0), byteOf(b, 0), byteOf(a, 1), byteOf(b, 1)], [1, 9, 2, 2]);
  assert.equal(a.entry(1) & ENTRY_FRAME, b.entry(1) & ENTRY_FRAME);
  a.write(RAM_BASE + PAGE, Uint8Array.of(8));
  assert.deepEqual([byteOf(a, 1), byteOf(b, 1)], [8, 2]);
  a.free();
  assert.deepEqual([byteOf(b, 0), byteOf(b, 1)], [9, 2]);
  b.free();
  assert.equal(pool.used, 0);
});

describe('writes from outside', () => {
  const [ra, t0, s0] = [1, 5, 8] as const;

  test('code that is running changes at once', () => {
    const a = new Assembler(RAM_BASE);
    a.label('again');
    a.op('addi', { rd: s0, rs1: s0, imm: 1 });
    a.jump(0, 'again');
    const machine = bareMachine(a.bytes());
    runSteps(machine, 1000);
    assert.equal(machine.hartSet.getX(0, s0), 500n);
    const instruction = new Uint8Array(4);
    new DataView(instruction.buffer).setUint32(0, encode(rowOf('addi'), { rd: s0, rs1: s0, imm: 100 }), true);
    assert.ok(machine.ram.write(RAM_BASE, instruction));
    runSteps(machine, 1000);
    assert.equal(machine.hartSet.getX(0, s0), 50_500n);
    // The second half alone, as a disk or a network card may end in the middle of an instruction.
    new DataView(instruction.buffer).setUint32(0, encode(rowOf('addi'), { rd: s0, rs1: s0, imm: 3 }), true);
    assert.ok(machine.ram.write(RAM_BASE + 2, instruction.subarray(2)));
    runSteps(machine, 2);
    assert.equal(machine.hartSet.getX(0, s0), 50_503n);
    machine.free();
  });

  test('an instruction across two pages changes with its second half', () => {
    const a = new Assembler(RAM_BASE);
    a.la(t0, 'function');
    a.label('again');
    a.op('jalr', { rd: ra, rs1: t0 });
    a.jump(0, 'again');
    a.org(RAM_BASE + PAGE - 2);
    a.label('function');
    a.op('addi', { rd: s0, rs1: s0, imm: 1 });
    a.op('jalr', { rs1: ra });
    const machine = bareMachine(a.bytes());
    runSteps(machine, 402);
    assert.equal(machine.hartSet.getX(0, s0), 100n);
    const instruction = new Uint8Array(4);
    new DataView(instruction.buffer).setUint32(0, encode(rowOf('addi'), { rd: s0, rs1: s0, imm: 16 }), true);
    machine.ram.write(RAM_BASE + PAGE, instruction.subarray(2));
    runSteps(machine, 400);
    assert.equal(machine.hartSet.getX(0, s0), 1700n);
    machine.free();
  });

  test(`into code and page tables in use: as if every cache had been dropped (seed ${SEED})`, () => {
    fc.assert(
      fc.property(recipe, fc.integer({ min: 1, max: 2000 }), fc.nat(), (recipe, slice, seed) => {
        const { base } = buildProgram(recipe);
        const run = (drop: boolean) => {
          const choices = new Random(seed);
          const machine = recipeMachine(recipe, { slice });
          for (let turn = 0; turn < 30; turn++) {
            runSteps(machine, 1 + choices.below(400));
            // Page tables' last levels, middle and root, patched functions, the window's pages.
            const area = choices.pick([0x20_2000, 0x20_2000, 0x20_1000, 0x20_6000, 0x50_0000, 0x40_0000]);
            const size = choices.pick([1, 2, 4, 8, 16, 200]);
            const at = base + area + choices.below(128);
            const bytes = new Uint8Array(size);
            machine.ram.read(at, bytes);
            for (let n = 0; n < size; n++) if (choices.chance(0.2)) bytes[n] = choices.below(256);
            machine.ram.write(at, bytes);
            if (drop) machine.engine.dropCaches();
          }
          const result = summary(machine);
          machine.free();
          return result;
        };
        assert.deepEqual(run(false), run(true));
      }),
      runs(60),
    );
  });
});

describe('the hash', () => {
  test('a page of zeros equals a page never touched', () => {
    const [a, b] = [bareMachine(new Uint8Array(4)), bareMachine(new Uint8Array(4))];
    a.ram.write(RAM_BASE + 0x10_0000, new Uint8Array(3 * PAGE).fill(1));
    a.ram.write(RAM_BASE + 0x10_0000, new Uint8Array(3 * PAGE));
    assert.equal(stateHash(a), stateHash(b));
    b.ram.prepare(77, false);
    assert.equal(stateHash(a), stateHash(b));
    a.free();
    b.free();
  });

  test('every byte counts, and where it is', () => {
    const seen = new Set<string>();
    const machine = bareMachine(new Uint8Array(4));
    seen.add(stateHash(machine));
    let count = 1;
    for (const at of [0x1000, 0x1001, 0x1008, 0x1ff8, 0x1fff, 0x2000, 0x40_0000, MEMORY - 1]) {
      for (const value of [1, 0x80]) {
        machine.ram.write(RAM_BASE + at, Uint8Array.of(value));
        seen.add(stateHash(machine));
        machine.ram.write(RAM_BASE + at, Uint8Array.of(0));
        stateHash(machine);
        count++;
      }
    }
    assert.equal(seen.size, count);
    machine.free();
  });

  test('a hash from what was written since the last one equals a hash from scratch', () => {
    fc.assert(
      fc.property(recipe, fc.nat(), (recipe, seed) => {
        const choices = new Random(seed);
        const machine = recipeMachine(recipe, { slice: 300 });
        for (let turn = 0; turn < 8; turn++) {
          runSteps(machine, choices.below(1200));
          if (choices.chance(0.3)) {
            machine.ram.write(
              RAM_BASE + choices.below(MEMORY - 5000),
              new Uint8Array(choices.below(5000)).fill(choices.below(256)),
            );
          }
          const scratch = restoreMachine(machine.engine, saveMachine(machine));
          assert.equal(stateHash(machine), stateHash(scratch));
          scratch.free();
        }
        machine.free();
      }),
      runs(15),
    );
  });

  test('only what was written is hashed again', () => {
    const machine = bareMachine(new Uint8Array(4));
    const { pool } = machine.engine;
    machine.ram.write(RAM_BASE, new Uint8Array(3 * LEAF_PAGES * PAGE).fill(1));
    const unknown = () => {
      const found: number[] = [];
      for (let page = 0; page < 3 * LEAF_PAGES; page++)
        if (pool.bytes[FRAME_HASHED + (machine.ram.entry(page) & ENTRY_FRAME)] === 0) found.push(page);
      return found;
    };
    stateHash(machine);
    assert.deepEqual(unknown(), []);
    machine.ram.write(RAM_BASE + LEAF_PAGES * PAGE - 1, Uint8Array.of(2, 2));
    assert.deepEqual(unknown(), [LEAF_PAGES - 1, LEAF_PAGES]);
    stateHash(machine);
    assert.deepEqual(unknown(), []);
    machine.free();
  });
});
