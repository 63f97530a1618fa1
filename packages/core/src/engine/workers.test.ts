/**
 * Translators of one pool: machines on two threads, and a machine that goes from one engine to another and back. Frames that one
 * thread frees are the other's next, while the first still has code of what was in them.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { stateHash } from '../machine/hash.ts';
import { Pool } from '../memory/pool.ts';
import { Assembler, encode, rowOf } from '../testing/assembler.ts';
import { plainMachine } from '../testing/bare.ts';
import type { LoopRecipe } from '../testing/loop-program.ts';
import { reborn, SEED } from '../testing/machines.ts';
import { Random } from '../testing/random.ts';
import { Engine, type EngineOptions } from './engine.ts';
import type { PortableModule } from './translator/installer.ts';

const EARLY = { hotness: 4, batch: 2, patience: 1 };
const STEPS = 30_000;
const PIECES = 3;
const MACHINES = 12;

const recipesOf = (random: Random): LoopRecipe[] =>
  Array.from({ length: MACHINES }, () => ({
    harts: random.between(1, 3),
    paged: random.chance(0.5),
    seed: random.u32(),
    turns: 50,
  }));

/** Hashes of each machine at the end of each piece, from a thread of its own with a worker area of the pool. */
function onThread(
  pool: Pool,
  worker: number,
  recipes: readonly LoopRecipe[],
  translate: EngineOptions['translate'] = EARLY,
): Promise<string[]> {
  const source = `
    import { parentPort, workerData } from 'node:worker_threads';
    const { memory, worker, recipes, core, translate, steps, pieces } = workerData;
    const { Pool } = await import(core + 'memory/pool.ts');
    const { Engine } = await import(core + 'engine/engine.ts');
    const { stateHash } = await import(core + 'machine/hash.ts');
    const { loopProgram } = await import(core + 'testing/loop-program.ts');
    const { bareMachine, runSteps } = await import(core + 'testing/machines.ts');
    const engine = new Engine(new Pool(undefined, undefined, memory), worker, { translate });
    const found = [];
    for (const recipe of recipes) {
      const machine = bareMachine(loopProgram(recipe), { harts: recipe.harts }, {}, engine);
      for (let n = 0; n < pieces; n++) {
        runSteps(machine, steps / pieces);
        found.push(stateHash(machine));
      }
      machine.free();
    }
    parentPort.postMessage({ found, regions: engine.translation.regions });`;
  return new Promise((resolve, reject) => {
    const core = new URL('../', import.meta.url).href;
    const thread = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
      workerData: { memory: pool.memory, worker, recipes, core, translate, steps: STEPS, pieces: PIECES },
    });
    thread.once('message', ({ found, regions }) => {
      assert.equal(regions > 0, translate !== false);
      resolve(found);
    });
    thread.once('error', reject);
  });
}

test(`machines of one pool on two threads equal machines on their own (seed ${SEED})`, async () => {
  const random = new Random(SEED);
  const lists = [recipesOf(random), recipesOf(random)];
  const expected = await Promise.all(lists.map((recipes) => onThread(new Pool(), 0, recipes, false)));
  const pool = new Pool();
  const found = await Promise.all(lists.map((recipes, worker) => onThread(pool, worker, recipes)));
  assert.deepEqual(found, expected);
  // Each in the other's area now, over what the other has left there.
  const again = await Promise.all(lists.map((recipes, worker) => onThread(pool, 1 - worker, recipes)));
  assert.deepEqual(again, expected);
});

/** Adds a constant of its code to s0 in a loop, and now and then changes that constant. */
function changing(): Uint8Array {
  const [t0, t1, s0, s1] = [5, 6, 8, 9] as const;
  const a = new Assembler(0x8000_0000);
  a.label('again');
  a.op('addi', { rd: s1, imm: 50 });
  a.label('loop');
  a.label('changed');
  a.op('addi', { rd: s0, rs1: s0, imm: 1 });
  a.op('addi', { rd: s1, rs1: s1, imm: -1 });
  a.branch('bne', s1, 0, 'loop');
  a.la(t0, 'changed');
  a.op('lw', { rd: t1, rs1: t0 });
  a.li(7, 0x10_0000);
  a.op('add', { rd: t1, rs1: t1, rs2: 7 });
  a.op('sw', { rs1: t0, rs2: t1 });
  a.jump(0, 'again');
  return a.bytes();
}

test('a machine that goes to and fro between two engines of a pool, its code being changed', () => {
  const random = new Random(SEED);
  const pool = new Pool();
  const engines = [0, 1].map((worker) => new Engine(pool, worker, { translate: EARLY }));
  const pieces = Array.from({ length: 60 }, () => random.between(1, 900));
  const add = (imm: number) => {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, encode(rowOf('addi'), { rd: 8, rs1: 8, imm }), true);
    return bytes;
  };
  const run = (at: (n: number) => Engine): string[] => {
    let machine = plainMachine(changing(), {}, at(0));
    const found = pieces.map((piece, n) => {
      machine.run(piece);
      const hash = stateHash(machine);
      // The host changes it too, here and there.
      if (n % 5 === 4) machine.ram.write(0x8000_0004, add(n));
      if (n % 3 === 2) machine = reborn(machine, at(n));
      return hash;
    });
    machine.free();
    return found;
  };
  const interpreter = new Engine(new Pool(), 0, { translate: false });
  assert.deepEqual(
    run((n) => engines[(n >> 1) & 1]!),
    run(() => interpreter),
  );
  assert.ok(engines.every((engine) => engine.translation.regions > 0));
});

/** Counts in registers alone, over two pages of code. */
function counting(): Uint8Array {
  const [s0, s1] = [8, 9] as const;
  const a = new Assembler(0x8000_0000);
  a.org(0x8000_0000 + 4096 - 16);
  a.label('loop');
  for (let n = 0; n < 8; n++) a.op('addi', { rd: s0, rs1: s0, imm: n });
  a.op('xor', { rd: s1, rs1: s1, rs2: s0 });
  a.jump(0, 'loop');
  return a.bytes();
}

describe('modules of another worker', () => {
  const LATE = { hotness: 30_000 };
  const sender = (pool: Pool) => {
    const modules: PortableModule[] = [];
    const engine = new Engine(pool, 0, { translate: EARLY, onModule: (module) => modules.push(module) });
    const machine = plainMachine(counting(), {}, engine);
    machine.hartSet.set(0, 'pc', 0x8000_0ff0n);
    machine.run(2000);
    assert.ok(modules.length > 0);
    return { machine, modules };
  };

  test('run on another thread, where nothing is compiled', async () => {
    const pool = new Pool();
    const { machine, modules } = sender(pool);
    const source = `
      import { parentPort, workerData } from 'node:worker_threads';
      const { memory, core, translate, modules, directory, image } = workerData;
      const { Pool } = await import(core + 'memory/pool.ts');
      const { Engine } = await import(core + 'engine/engine.ts');
      const { plainMachine } = await import(core + 'testing/bare.ts');
      const pool = new Pool(undefined, undefined, memory);
      const engine = new Engine(pool, 1, { translate });
      const machine = plainMachine(image, {}, engine);
      pool.words[machine.ram.directory >>> 2] = pool.words[directory >>> 2];
      pool.retain(pool.words[directory >>> 2]);
      machine.hartSet.set(0, 'pc', 0x8000_0ff0n);
      const installed = modules.map((module) => engine.install(module));
      const again = modules.map((module) => engine.install(module));
      machine.run(2000);
      const { regions, received } = engine.translation;
      parentPort.postMessage({ installed, again, regions, received, x: machine.hartSet.record(0).getX(9) });`;
    const found = await new Promise<Record<string, unknown>>((resolve, reject) => {
      const core = new URL('../', import.meta.url).href;
      const { directory } = machine.ram;
      const thread = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
        workerData: { memory: pool.memory, core, translate: LATE, modules, directory, image: counting() },
      });
      thread.once('message', resolve);
      thread.once('error', reject);
    });
    const regions = modules.map((module) => module.regions.length);
    assert.deepEqual(found, {
      installed: regions,
      again: regions.map(() => 0),
      regions: 0,
      received: regions.reduce((sum, some) => sum + some),
      x: machine.hartSet.record(0).getX(9),
    });
  });

  test('are not taken when the code has changed since, or the frame has gone', () => {
    const pool = new Pool();
    const { machine, modules } = sender(pool);
    const receiver = () => new Engine(pool, 1, { translate: LATE });
    assert.equal(receiver().install(modules[0]!), modules[0]!.regions.length);
    // The first instruction of the loop, which every region covers.
    machine.ram.write(0x8000_0ff0, new Uint8Array(4));
    for (const module of modules) assert.equal(receiver().install(module), 0);
    machine.free();
    for (const module of modules) assert.equal(receiver().install(module), 0);
    assert.equal(new Engine(new Pool(), 0, { translate: false }).install(modules[0]!), 0);
  });
});
