/** Forks, resets and adoptions of machines: each equals a machine that ran alone the same way, and no frame is lost or freed twice. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { MemoryBackend } from '../devices/virtio-block/backend.ts';
import { FrameBlocks } from '../disk/frame-blocks.ts';
import { OverlayBackend } from '../disk/overlay.ts';
import { Engine } from '../engine/engine.ts';
import { stateHash } from '../machine/hash.ts';
import { Machine } from '../machine/machine.ts';
import { MachineError } from '../machine/options.ts';
import { PAGE, RAM_BASE } from '../memory/layout.ts';
import { Pool, PoolFullError } from '../memory/pool.ts';
import { ENGINE_OPTIONS, recipeMachine, runSteps, runs, SEED, sharedEngine } from '../testing/machines.ts';
import { buildProgram, type Recipe } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';
import { becomeForkPoint, type ForkPoint, forkPoint, freeForkPoint, machineFrom, shareForkPoint } from './fork-point.ts';

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
  const pool = new Pool();
  const engines = [new Engine(pool, 0, ENGINE_OPTIONS), new Engine(pool, 1, ENGINE_OPTIONS)];
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
        assert.equal(stateHash(machine), stateHash(alone));
        alone.free();
      };
      const act = (member: Member, step: Step) => {
        go(member.machine, step);
        member.history = [...member.history, step];
      };
      for (let turn = 0; turn < 40; turn++) {
        const member = choices.pick(family);
        const { machine, history } = member;
        switch (choices.pick(['run', 'run', 'run', 'write', 'fork', 'keep', 'reset', 'adopt', 'kill', 'check'] as const)) {
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
        assert.deepEqual(pool.audit(roots(family.map((one) => one.machine), kept.map((one) => one.point))), []);
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
