/** Random trees of forks over the threads of a pool: whatever is done in whatever order, each machine is what it would be alone. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runs, SEED } from '@braid/core/testing/machines.ts';
import { buildProgram } from '@braid/core/testing/programs.ts';
import { Random } from '@braid/core/testing/random.ts';
import fc from 'fast-check';
import { type ForkPoint, Machine, Pool } from '../index.ts';

/** A machine, and the steps that it has made since power-on, which say all about it. */
interface Member {
  readonly machine: Machine;
  steps: number;
}

for (const threads of [1, 2]) {
  test(`any interleaving of fork, run, reset, adopt and kill on ${threads} thread(s) equals runs on their own (seed ${SEED})`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.nat(), fc.nat(), async (harts, program, seed) => {
        const choices = new Random(seed);
        const { image } = buildProgram({ harts, sbi: false, seed: program, rounds: 400 });
        const options = { bare: image, memory: '32M', harts, seed: 1, slice: 700 } as const;
        await using pool = new Pool({ threads });
        const alone = new Map<number, string>();
        const family: Member[] = [{ machine: await Machine.create({ ...options, pool }), steps: 0 }];
        const points: { readonly point: ForkPoint; readonly steps: number }[] = [];
        /** Steps at which hashes were taken, and what they were. */
        const seen: { readonly steps: number; readonly hash: string }[] = [];
        const run = async (member: Member) => {
          const steps = 1 + choices.below(6000);
          await member.machine.step(BigInt(steps)).catch((error) => {
            // A program that is over stays so.
            assert.match(error.code, /EXITED|HALTED/);
          });
          member.steps = Number((await member.machine.stats()).steps);
        };
        for (let turn = 0; turn < 25; turn++) {
          const member = choices.pick(family);
          switch (choices.pick(['run', 'all', 'fork', 'keep', 'reset', 'open', 'adopt', 'kill'] as const)) {
            case 'run':
              await run(member);
              break;
            case 'all':
              await Promise.all(family.map(run));
              break;
            case 'fork':
              for (const machine of await member.machine.fork(choices.below(3))) {
                assert.ok(machine instanceof Machine, String(machine));
                family.push({ machine, steps: member.steps });
              }
              break;
            case 'keep':
              points.push({ point: await member.machine.forkPoint(), steps: member.steps });
              break;
            case 'reset': {
              const kept = points.length > 0 && choices.pick(points);
              if (!kept) break;
              await member.machine.reset(kept.point);
              member.steps = kept.steps;
              break;
            }
            case 'open': {
              const kept = points.length > 0 && choices.pick(points);
              if (kept) family.push({ machine: await kept.point.fork(), steps: kept.steps });
              break;
            }
            case 'adopt': {
              const child = choices.pick(family);
              if (child === family[0]) break;
              await family[0]!.machine.adopt(child.machine);
              family[0]!.steps = child.steps;
              family.splice(family.indexOf(child), 1);
              break;
            }
            case 'kill':
              if (member === family[0]) break;
              family.splice(family.indexOf(member), 1);
              await member.machine.dispose();
          }
          const looked = choices.pick(family);
          seen.push({ steps: looked.steps, hash: await looked.machine.stateHash() });
        }
        await using reference = await Machine.create(options);
        for (const { steps } of seen.sort((a, b) => a.steps - b.steps)) {
          if (alone.has(steps)) continue;
          await reference.runUntil({ steps: BigInt(steps) }).catch(() => {});
          alone.set(steps, await reference.stateHash());
        }
        for (const { steps, hash } of seen) assert.equal(hash, alone.get(steps), `at ${steps} steps`);
        for (const { machine } of family) await machine.dispose();
        for (const { point } of points) await point.dispose();
        assert.equal(pool.memory.used, 0, 'frames are left');
      }),
      runs(6),
    );
  });
}
