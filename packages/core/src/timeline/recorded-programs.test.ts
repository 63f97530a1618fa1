/** Generated programs with input of every kind, recorded with keyframes at any moment: each is found again, from each engine. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Engine } from '../engine/engine.ts';
import { recordedHash } from '../machine/hash.ts';
import type { InputEvent } from '../machine/log.ts';
import { recipeMachine, runSteps, runs, SEED, sharedEngine } from '../testing/machines.ts';
import type { Recipe } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';
import { eventsOf, MemorySink, memorySource, Recorder } from '../testing/recordings.ts';
import { Recording } from './recording/reader.ts';
import { type Progress, Timeline } from './timeline.ts';

const recipe: fc.Arbitrary<Recipe> = fc.record({
  harts: fc.integer({ min: 1, max: 4 }),
  sbi: fc.boolean(),
  seed: fc.integer({ min: 0, max: 0xffff_ffff }),
  rounds: fc.constant(2000),
});
const choices = fc.integer({ min: 0, max: 0xffff_ffff }).map((seed) => new Random(seed));

/** All that may come from outside, but for answers to hints, which belong to one. */
const INPUTS: ((random: Random) => InputEvent)[] = [
  (random) => ({ kind: 'console', bytes: bytesOf(random, 40) }),
  (random) => ({ kind: 'port', port: random.below(2), bytes: bytesOf(random, 40) }),
  (random) => ({ kind: 'port-open', port: random.below(2), open: random.chance(0.5) }),
  (random) => ({ kind: 'resize', columns: random.below(300), rows: random.below(100) }),
  (random) => ({ kind: 'time', advance: BigInt(random.below(100_000)) }),
  (random) => ({ kind: 'skip-idle', on: random.chance(0.8) }),
  (random) => ({ kind: 'frame', bytes: bytesOf(random, 1500) }),
  (random) => ({ kind: 'link', up: random.chance(0.5) }),
  (random) => ({ kind: 'reseed', seed: BigInt(random.below(1000)) }),
  (random) => ({ kind: 'address', mac: Uint8Array.from([2, 0, 0, 0, 0, random.below(256)]) }),
];

function bytesOf(random: Random, most: number): Uint8Array {
  return Uint8Array.from({ length: random.below(most) }, () => random.below(256));
}

function finish(work: Generator<Progress, unknown>): void {
  while (!work.next().done);
}

function runThrough(timeline: Timeline): void {
  finish(timeline.run());
  assert.equal(timeline.at, timeline.end);
  assert.equal(recordedHash(timeline.machine), timeline.recording.end.hash);
}

async function recorded(recipe: Recipe, random: Random): Promise<Uint8Array> {
  const machine = recipeMachine(recipe, { slice: 1 + random.below(800) });
  runSteps(machine, random.below(2000));
  machine.run(0);
  const sink = new MemorySink();
  const recorder = new Recorder(machine, sink);
  for (let n = 2 + random.below(6); n > 0; n--) {
    await recorder.keyframe();
    for (let turn = random.below(8); turn > 0; turn--) {
      machine.input(random.pick(INPUTS)(random));
      runSteps(machine, random.below(2500));
    }
    machine.run(0);
  }
  await recorder.events();
  const { position, now: time, exit } = machine;
  const hash = recordedHash(machine);
  await recorder.writer.end({ at: recorder.at, stretch: 0, position, time, hash, exit, why: 'over' });
  recorder.free();
  return sink.bytes();
}

const { pool } = sharedEngine();
/** As the tests' own is, and one that translates what the other does not. */
const engines = [sharedEngine(), new Engine(pool, 5, { translate: { hotness: 5, batch: 3, patience: 2 } })];
if (process.env.BRAID_TRANSLATE !== '0') engines.push(new Engine(pool, 6, { translate: false }));

test(`every keyframe of recorded programs, from every engine (seed ${SEED})`, async () => {
  const kinds = new Set<string>();
  let keyframes = 0;
  await fc.assert(
    fc.asyncProperty(recipe, choices, async (recipe, random) => {
      const { used } = pool;
      const recording = Recording.open(memorySource(await recorded(recipe, random)), []);
      for (const { event } of eventsOf(recording.stretches[0]!.log)) kinds.add(event.kind);
      const hashes = new Map<bigint, string>();
      for (const engine of engines) {
        const timeline = new Timeline(engine, recording);
        // What has been verified, and what has not, is found alike.
        if (random.chance(0.5)) runThrough(timeline);
        const found = [...recording.keyframes].sort(() => random.below(3) - 1);
        for (const { at, index } of found) {
          finish(timeline.seek(at));
          // Behind what entered there after the keyframe.
          const hash = recordedHash(timeline.machine);
          assert.equal(hash, hashes.get(at) ?? hash, `keyframe ${index}`);
          hashes.set(at, hash);
          keyframes++;
        }
        finish(timeline.seek(0n));
        runThrough(timeline);
        assert.ok(timeline.verified >= recording.keyframes.filter(({ at }) => at > 0n).length);
        timeline.free();
      }
      assert.equal(pool.used, used);
    }),
    runs(25),
  );
  assert.ok(keyframes > 100, `${keyframes} keyframes`);
  assert.equal(kinds.size, INPUTS.length, [...kinds].join(', '));
});
