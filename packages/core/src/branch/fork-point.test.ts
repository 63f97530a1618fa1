/** Forks, resets and adoptions of machines: each equals a machine that ran alone the same way, and no frame is lost or freed twice. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { MemoryBackend } from '../devices/virtio-block/backend.ts';
import { FrameBlocks } from '../disk/frame-blocks.ts';
import { OverlayBackend } from '../disk/overlay.ts';
import { Engine } from '../engine/engine.ts';
import { stateHash } from '../machine/hash.ts';
import type { Machine } from '../machine/machine.ts';
import { MachineError, type MachineOptions } from '../machine/options.ts';
import { recordMachine } from '../machine/save.ts';
import { PAGE, RAM_BASE } from '../memory/layout.ts';
import { Pool, PoolFullError } from '../memory/pool.ts';
import { ENGINE_OPTIONS, recipeMachine, runSteps, runs, SEED, sharedEngine } from '../testing/machines.ts';
import { stateOf } from '../testing/perturbed.ts';
import { buildProgram, type Recipe } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';
import {
  becomeForkPoint,
  type ForkPoint,
  forkPoint,
  freeForkPoint,
  identify,
  machineFrom,
  shareForkPoint,
} from './fork-point.ts';

const recipe: fc.Arbitrary<Recipe> = fc.record({
  harts: fc.integer({ min: 1, max: 4 }),
  sbi: fc.boolean(),
  seed: fc.integer({ min: 0, max: 0xffff_ffff }),
  rounds: fc.constant(200),
});

/** What a machine has gone through. */
type Step = { readonly steps: number } | { readonly at: number; readonly byte: number };

interface Member {
  readonly machine: Machine;
  history: readonly Step[];
}

interface Kept {
  readonly point: ForkPoint;
  readonly history: readonly Step[];
}

function go(machine: Machine, step: Step): void {
  if ('steps' in step) runSteps(machine, step.steps);
  else machine.ram.write(step.at, Uint8Array.of(step.byte));
}

const roots = (machines: readonly Machine[], points: readonly ForkPoint[]): number[] => [
  ...machines.flatMap(({ ram }) => ram.roots),
  ...points.flatMap(({ ram }) => ram),
];

test(`any interleaving of fork, run, write, reset, adopt and kill equals runs on their own (seed ${SEED})`, () => {
  // Few pages of code, which the two share, and few tables.
  const pool = new Pool(undefined, 36);
  const engines = [1, 2].map((tables, worker) => new Engine(pool, worker, { ...ENGINE_OPTIONS, tables }));
  fc.assert(
    fc.property(recipe, fc.integer({ min: 1, max: 2000 }), fc.nat(), (recipe, slice, seed) => {
      const choices = new Random(seed);
      const { base } = buildProgram(recipe);
      // One step, so that what was queued for the machine has entered: a fork has no part in that.
      const history = [{ steps: 1 }];
      const family: Member[] = [{ machine: recipeMachine(recipe, { slice }, engines[0]!), history }];
      for (const step of history) go(family[0]!.machine, step);
      const kept: Kept[] = [];
      const check = ({ machine, history }: Member) => {
        const alone = recipeMachine(recipe, { slice }, sharedEngine());
        for (const step of history) go(alone, step);
        assert.deepEqual(stateOf(machine), stateOf(alone));
        alone.free();
      };
      const act = (member: Member, step: Step) => {
        go(member.machine, step);
        member.history = [...member.history, step];
      };
      for (let turn = 0; turn < 40; turn++) {
        const member = choices.pick(family);
        const { machine, history } = member;
        switch (
          choices.pick(['run', 'run', 'run', 'write', 'fork', 'keep', 'reset', 'adopt', 'kill', 'check'] as const)
        ) {
          case 'run':
            act(member, { steps: 1 + choices.below(choices.chance(0.3) ? 20 : 1500) });
            break;
          case 'write':
            // Page tables, patched functions, the window's pages.
            act(member, {
              at: base + choices.pick([0x20_2000, 0x20_1000, 0x50_0000, 0x40_0000]) + choices.below(64),
              byte: choices.below(256),
            });
            break;
          case 'fork':
            if (family.length < 6)
              family.push({ machine: machineFrom(choices.pick(engines), forkPoint(machine)), history });
            break;
          case 'keep':
            if (kept.length < 4) kept.push({ point: forkPoint(machine), history });
            break;
          case 'reset': {
            if (kept.length === 0) break;
            const { point, history } = choices.pick(kept);
            becomeForkPoint(machine, point);
            member.history = history;
            break;
          }
          case 'adopt': {
            const other = choices.pick(family);
            if (other === member) break;
            const point = forkPoint(other.machine);
            other.machine.free();
            family.splice(family.indexOf(other), 1);
            becomeForkPoint(machine, point);
            freeForkPoint(pool, point);
            member.history = other.history;
            break;
          }
          case 'kill':
            if (family.length > 1) family.splice(family.indexOf(member), 1)[0]!.machine.free();
            else if (kept.length > 0) freeForkPoint(pool, kept.splice(choices.below(kept.length), 1)[0]!.point);
            break;
          case 'check':
            check(member);
        }
        assert.deepEqual(
          pool.audit(
            roots(
              family.map((one) => one.machine),
              kept.map((one) => one.point),
            ),
          ),
          [],
        );
      }
      for (const member of family) check(member);
      for (const { machine } of family) machine.free();
      for (const { point, history } of kept) {
        const machine = machineFrom(engines[1]!, point);
        check({ machine, history });
        machine.free();
      }
      assert.equal(pool.used, 0);
    }),
    runs(30),
  );
});

describe('a fork point', () => {
  const SECTOR = 512;
  const overlay = (pool: Pool, bytes: Uint8Array) =>
    new OverlayBackend(new MemoryBackend(bytes), new FrameBlocks(pool, BigInt(bytes.length)));
  const small = (engine: Engine, options: Partial<MachineOptions> = {}) => {
    const machine = recipeMachine({ harts: 1, sbi: false, seed: 1, rounds: 20 }, options, engine);
    runSteps(machine, 100);
    return machine;
  };
  const contentOf = (machine: Machine, length: number) => {
    const bytes = new Uint8Array(length);
    machine.platform.backends[0]!.read(0, bytes);
    return bytes;
  };

  test('freezes disks: parent and children write overlays, whose blocks they share', () => {
    const engine = sharedEngine();
    const { pool } = engine;
    const base = new Uint8Array(64 * SECTOR).fill(1);
    const parent = small(engine, { disks: [{ backend: overlay(pool, base) }] });
    const disk = parent.platform.backends[0]!;
    disk.write(0, new Uint8Array(SECTOR).fill(2));
    assert.equal(base[0], 2, 'a machine alone writes its disk');
    const point = forkPoint(parent);
    disk.write(SECTOR, new Uint8Array(SECTOR).fill(3));
    const attach = { disks: [{ backend: new MemoryBackend(base, true) }] };
    const [child, other] = [
      machineFrom(engine, shareForkPoint(pool, point), attach),
      machineFrom(engine, point, attach),
    ];
    child.platform.backends[0]!.write(0, new Uint8Array(SECTOR).fill(4));
    assert.deepEqual([base[0], base[SECTOR]], [2, 1], 'the base is as it was');
    assert.deepEqual(
      [...contentOf(parent, 2 * SECTOR)].filter((_, i) => i % SECTOR === 0),
      [2, 3],
    );
    assert.deepEqual(
      [...contentOf(child, 2 * SECTOR)].filter((_, i) => i % SECTOR === 0),
      [4, 1],
    );
    assert.deepEqual(
      [...contentOf(other, 2 * SECTOR)].filter((_, i) => i % SECTOR === 0),
      [2, 1],
    );
    const hashes = [parent, child, other].map(stateHash);
    assert.equal(new Set(hashes).size, 3, 'disks count by content');
    const won = forkPoint(child);
    becomeForkPoint(parent, won);
    freeForkPoint(pool, won);
    assert.equal(stateHash(parent), hashes[1]);
    child.free();
    other.free();
    (disk.inner as OverlayBackend).commit();
    assert.equal(base[0], 4, 'what was adopted is committed');
    assert.equal(stateHash(parent), hashes[1]);
    parent.free();
  });

  test('is refused for a disk whose writes would reach others', () => {
    const machine = small(sharedEngine(), { disks: [{ backend: new MemoryBackend(new Uint8Array(SECTOR)) }] });
    const { used } = machine.engine.pool;
    assert.throws(() => forkPoint(machine), MachineError);
    assert.equal(machine.engine.pool.used, used);
    machine.free();
  });

  test('of another configuration is refused, and nothing changes', () => {
    const engine = sharedEngine();
    const [one, two] = [small(engine), small(engine, { slice: 77 })];
    const point = forkPoint(one);
    const before = stateHash(two);
    assert.throws(() => becomeForkPoint(two, point), MachineError);
    assert.equal(stateHash(two), before);
    freeForkPoint(engine.pool, point);
    one.free();
    two.free();
  });

  test('gives a clone a stream of entropy and an address of its own, by events of its log', () => {
    const engine = sharedEngine();
    const parent = small(engine, { slice: 1000 });
    const clone = machineFrom(engine, forkPoint(parent));
    identify(clone, { seed: 5n, mac: Uint8Array.of(2, 0, 0, 0, 0, 9) });
    runSteps(clone, 5000);
    runSteps(parent, 5000);
    assert.deepEqual(
      clone.log.events.map(({ event }) => event.kind),
      ['address', 'reseed'],
    );
    const { devices } = recordMachine(clone);
    assert.notDeepEqual(devices.entropy, recordMachine(parent).devices.entropy);
    assert.deepEqual((devices.net as { mac: Uint8Array }).mac, Uint8Array.of(2, 0, 0, 0, 0, 9));
    clone.free();
    parent.free();
  });

  test('needs head-room: a pool that is nearly full refuses it, whoever has the memory goes on', () => {
    const pool = new Pool(1500);
    const engine = new Engine(pool, 0, ENGINE_OPTIONS);
    const machine = small(engine);
    const children: Machine[] = [];
    assert.throws(() => {
      for (let n = 0; n < 1000; n++) {
        const child = machineFrom(engine, forkPoint(machine));
        children.push(child);
        for (let page = 0; page < 40; page++) child.ram.write(RAM_BASE + 0x80_0000 + page * PAGE, Uint8Array.of(n));
      }
    }, PoolFullError);
    assert.ok(children.length > 3);
    const expected = small(sharedEngine());
    runSteps(expected, 5000);
    for (const one of [machine, children[0]!]) runSteps(one, 5000);
    assert.equal(stateHash(machine), stateHash(expected));
    for (const one of [machine, ...children]) one.free();
    expected.free();
    assert.equal(pool.used, 0);
  });

  test('where memory ends at any allocation, nothing is lost and the run goes on when there is some again', () => {
    const reference = small(sharedEngine());
    runSteps(reference, 5000);
    const expected = stateHash(reference);
    reference.free();
    for (let room = 0; room < 40; room++) {
      const pool = new Pool(6000);
      const engine = new Engine(pool, 0, ENGINE_OPTIONS);
      const parent = small(engine);
      const child = machineFrom(engine, forkPoint(parent));
      const ballast: number[] = [];
      while (pool.available > room) ballast.push(pool.allocate());
      let failures = 0;
      while (child.totalSteps < 5100n) {
        try {
          runSteps(child, 5100 - Number(child.totalSteps));
        } catch (error) {
          assert.ok(error instanceof PoolFullError, String(error));
          failures++;
          pool.release(ballast.pop()!);
        }
      }
      assert.equal(stateHash(child), expected);
      assert.ok(failures > 0 || room > 5);
      for (const frame of ballast) pool.release(frame);
      child.free();
      parent.free();
      assert.equal(pool.used, 0);
    }
  });
});
