import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { recordedHash } from '../../machine/hash.ts';
import { LogReader } from '../../machine/log.ts';
import { PAGE } from '../../memory/layout.ts';
import { recipeMachine, runSteps, runs, SEED } from '../../testing/machines.ts';
import type { Recipe } from '../../testing/programs.ts';
import { Random } from '../../testing/random.ts';
import { infoOf, MemorySink, memorySource, Recorder, restored } from '../../testing/recordings.ts';
import { Recording } from './reader.ts';

const recipe: fc.Arbitrary<Recipe> = fc.record({
  harts: fc.integer({ min: 1, max: 4 }),
  sbi: fc.boolean(),
  seed: fc.integer({ min: 0, max: 0xffff_ffff }),
  rounds: fc.constant(200),
});
const choices = fc.integer({ min: 0, max: 0xffff_ffff }).map((seed) => new Random(seed));
const KEYFRAMES = 6;

test(`keyframes of a machine that runs on give back every page, and replay from each (seed ${SEED})`, async () => {
  let changed = 0;
  await fc.assert(
    fc.asyncProperty(recipe, choices, async (recipe, choices) => {
      const machine = recipeMachine(recipe, { slice: 1 + choices.below(500) });
      // The recording may begin anywhere.
      runSteps(machine, choices.below(1000));
      const sink = new MemorySink();
      const recorder = new Recorder(machine, sink);
      for (let n = 0; n < KEYFRAMES; n++) {
        if (n > 0 && choices.chance(0.5)) void recorder.events();
        void recorder.keyframe();
        for (let turn = choices.below(4); turn > 0; turn--) {
          machine.input({ kind: 'console', bytes: Uint8Array.of(choices.below(256)) });
          machine.input({ kind: 'time', advance: BigInt(choices.below(5000)) });
          runSteps(machine, choices.below(900));
        }
      }
      void recorder.events();
      const { position, now: time, exit } = machine;
      const end = { at: recorder.at, stretch: 0, position, time, hash: recordedHash(machine), exit, why: 'over' };
      await recorder.writer.end(end);

      const recording = Recording.open(memorySource(sink.bytes()), []);
      assert.ok(recording.complete);
      assert.deepEqual(recording.end, end);
      assert.deepEqual(recording.info, infoOf(machine));
      assert.equal(recording.keyframes.length, KEYFRAMES);
      const content = new Uint8Array(PAGE);
      for (const [n, { ram, hash, at }] of recorder.keyframes.entries()) {
        const found = recording.keyframes[n]!;
        assert.deepEqual([found.hash, found.at], [hash, at]);
        const pages = [...recording.pages(n)];
        assert.deepEqual(pages, [...ram.keys()]);
        for (const page of pages) {
          recording.content(recording.version(n, page), content);
          assert.ok(ram.get(page)!.equals(content), `page ${page} of keyframe ${n}`);
        }
        if (n === 0) continue;
        const before = recorder.keyframes[n - 1]!.ram;
        const named = new Set(recording.changed(n));
        for (const page of new Set([...pages, ...before.keys()])) {
          const same = ram.get(page)?.equals(before.get(page) ?? new Uint8Array()) ?? false;
          if (!same) assert.ok(named.has(page), `page ${page} differs at keyframe ${n}`);
          if (!named.has(page)) assert.equal(recording.version(n, page), recording.version(n - 1, page));
        }
        changed += named.size;
      }
      const { log, from, firstSteps } = recording.stretches[0]!;
      for (const { index, events } of recording.keyframes) {
        const again = restored(recording, index);
        assert.equal(recordedHash(again), recording.keyframes[index]!.hash);
        again.follow(new LogReader(log, events));
        runSteps(again, Number(end.at - (again.totalSteps - firstSteps + from)));
        assert.equal(recordedHash(again), end.hash);
        assert.ok(again.following?.finished);
        again.free();
      }
      recorder.free();
    }),
    runs(20),
  );
  assert.ok(changed > 20, `${changed} pages changed`);
});
