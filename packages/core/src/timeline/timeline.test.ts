/** A timeline against the run that was recorded: every moment, from every direction. */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { recordedHash } from '../machine/hash.ts';
import type { Machine } from '../machine/machine.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { guestMissing, linuxMachine, recipeMachine, runSteps, SEED, sharedEngine } from '../testing/machines.ts';
import { perturbedEngines } from '../testing/perturbed.ts';
import { Random } from '../testing/random.ts';
import { MemorySink, memorySource, Recorder } from '../testing/recordings.ts';
import { DivergenceError } from './divergence.ts';
import { record, replay } from './logged-run.ts';
import type { Hit, Point } from './points.ts';
import { Recording } from './recording/reader.ts';
import { type Progress, Timeline } from './timeline.ts';

const choices = new Random(SEED);

/** Does all of some work. */
export function finish<T>(work: Generator<Progress, T>): T {
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
  }
}

interface Run {
  readonly recording: Recording;
  readonly end: bigint;
  /** The state's hash at a moment. */
  hashAt(at: bigint): string;
  /** Every hit of points. */
  hits(points: readonly Point[]): Hit[];
}

/** Runs a machine for so many steps with keyframes and input now and then, and records it. */
async function recorded(machine: Machine, steps: number, keyframes: number, damage?: () => void): Promise<Run> {
  const original = record(machine);
  const sink = new MemorySink();
  const recorder = new Recorder(machine, sink);
  runSteps(machine, 0);
  await recorder.keyframe();
  for (let n = 0; n < keyframes; n++) {
    machine.input({ kind: 'console', bytes: Uint8Array.of(65 + (n % 26)) });
    runSteps(machine, 1 + choices.below(Math.floor((2 * steps) / keyframes)));
    damage?.();
    if (n < keyframes - 1) await recorder.keyframe();
  }
  machine.run(0);
  await recorder.events();
  const { position, now: time, exit } = machine;
  const end = recorder.at;
  const hash = recordedHash(machine);
  await recorder.writer.end({ at: end, stretch: 0, position, time, hash, exit, why: 'the test is over' });
  const recording = Recording.open(memorySource(sink.bytes()), []);
  recorder.free();
  const known = new Map<bigint, string>();
  return {
    recording,
    end,
    hashAt: (at) => {
      let found = known.get(at);
      if (found === undefined) {
        const again = replay(sharedEngine(), original);
        runSteps(again, Number(at));
        again.run(0);
        found = recordedHash(again);
        known.set(at, found);
        again.free();
      }
      return found;
    },
    hits: (points) => {
      const timeline = new Timeline(choices.pick(perturbedEngines()), recording);
      const all: Hit[] = [];
      for (;;) {
        const stop = finish(timeline.run(points));
        if (stop.kind !== 'hit') break;
        all.push(stop.hit);
        if (stop.hit.at === timeline.at) finish(timeline.step());
      }
      timeline.free();
      return all;
    },
  };
}

describe('programs of random instructions, three harts, random input', () => {
  let run: Run;
  let timeline: Timeline;
  test('a recording is replayed to its end, and every keyframe is verified', async () => {
    run = await recorded(
      recipeMachine({ harts: 3, sbi: false, seed: SEED, rounds: 10_000 }, { slice: 700 }),
      60_000,
      9,
    );
    timeline = new Timeline(choices.pick(perturbedEngines()), run.recording);
    assert.equal(timeline.at, 0n);
    assert.deepEqual(finish(timeline.run()), { kind: 'end' });
    assert.equal(timeline.at, run.end);
    assert.equal(timeline.verified, run.recording.keyframes.length - 1);
  });
  after(() => timeline.free());

  test('any moment is found, from any other', () => {
    for (let n = 0; n < 40; n++) {
      const at = BigInt(choices.below(Number(run.end) + 1));
      finish(timeline.seek(at));
      assert.equal(timeline.at, at);
      assert.equal(recordedHash(timeline.machine), run.hashAt(at), `step ${at}`);
    }
    for (const at of [0n, run.end, ...run.recording.keyframes.map((keyframe) => keyframe.at)]) {
      finish(timeline.seek(at));
      assert.equal(recordedHash(timeline.machine), run.hashAt(at), `step ${at}`);
    }
  });

  test('steps back', () => {
    for (let n = 0; n < 3; n++) {
      const from = BigInt(300 + choices.below(Number(run.end) - 300));
      finish(timeline.seek(from));
      for (let back = 1n; back <= 40n; back++) {
        finish(timeline.reverseStep());
        assert.equal(timeline.at, from - back);
        if (back % 8n === 0n) assert.equal(recordedHash(timeline.machine), run.hashAt(from - back));
      }
    }
    finish(timeline.seek(1n));
    assert.deepEqual(finish(timeline.reverseStep()), { kind: 'there' });
    assert.deepEqual(finish(timeline.reverseStep()), { kind: 'begin' });
  });

  test('steps of one hart, forwards and back', () => {
    for (let n = 0; n < 12; n++) {
      const hart = choices.below(3);
      finish(timeline.seek(BigInt(5000 + choices.below(Number(run.end) - 10_000))));
      const { machine } = timeline;
      const made = machine.steps(hart);
      finish(timeline.step(hart));
      assert.equal(machine.steps(hart), made + 1n);
      finish(timeline.reverseStep(hart));
      assert.equal(machine.steps(hart), made);
      assert.equal(machine.schedule.hart, hart);
      const { at } = timeline;
      finish(timeline.reverseStep(hart));
      assert.equal(machine.steps(hart), made - 1n);
      assert.ok(timeline.at < at);
      finish(timeline.step());
      assert.equal(machine.steps(hart), made, 'it was the next one that steps');
    }
  });

  test('the last time that a breakpoint was come to', () => {
    for (let n = 0; n < 4; n++) {
      finish(timeline.seek(BigInt(choices.below(Number(run.end)))));
      const { machine } = timeline;
      const points: Point[] = [{ kind: 'break', address: machine.hartSet.get(machine.schedule.hart, 'pc') }];
      const all = run.hits(points);
      const from = BigInt(choices.below(Number(run.end)));
      finish(timeline.seek(from));
      const expected = all
        .filter(({ at }) => at < from)
        .slice(-3)
        .reverse();
      for (const hit of expected) {
        assert.deepEqual(finish(timeline.reverse(points)), { kind: 'hit', hit });
        assert.equal(timeline.at, hit.at);
      }
      if (expected.length < 3) assert.deepEqual(finish(timeline.reverse(points)), { kind: 'begin' });
    }
  });

  test('who wrote last', () => {
    // Where the programs' stores go is theirs to choose: pages that the file says have changed.
    const pages = new Set(run.recording.keyframes.slice(1).flatMap(({ index }) => [...run.recording.changed(index)]));
    for (const page of [...pages].slice(0, 6)) {
      const address = BigInt(RAM_BASE + page * 4096 + 8 * choices.below(512));
      const all = run.hits([{ kind: 'write', address, length: 8, physical: true }]);
      const from = BigInt(choices.below(Number(run.end)));
      finish(timeline.seek(from));
      const last = finish(timeline.lastWrite(address, 8));
      const expected = all.filter(({ at }) => at < from).at(-1);
      if (expected) {
        assert.deepEqual(last, { kind: 'write', hit: expected });
        assert.equal(timeline.at, expected.at);
      } else {
        assert.deepEqual(last, { kind: 'before' });
        assert.equal(timeline.at, from);
      }
    }
  });

  test('guest time', () => {
    for (let n = 0; n < 5; n++) {
      const at = BigInt(choices.below(Number(run.end)));
      finish(timeline.seek(at));
      const time = timeline.machine.now;
      finish(timeline.seekTime(time));
      assert.ok(timeline.at <= at && timeline.machine.now >= time);
      if (timeline.at === 0n) continue;
      finish(timeline.reverseStep());
      assert.ok(timeline.machine.now < time);
    }
    finish(timeline.seekTime(1n << 60n));
    assert.equal(timeline.at, run.end);
  });

  test('positions', () => {
    for (let n = 0; n < 5; n++) {
      finish(timeline.seek(BigInt(choices.below(Number(run.end)))));
      const { at, position } = timeline;
      finish(timeline.seek(BigInt(choices.below(Number(run.end)))));
      finish(timeline.seekPosition(position));
      assert.ok(timeline.at <= at);
      assert.deepEqual(timeline.position, position);
    }
  });

  test('a small pool: checkpoints and pages go, and all goes on', () => {
    const { pool } = timeline.machine.engine;
    const { used } = pool;
    const another = new Timeline(sharedEngine(), run.recording);
    finish(another.run());
    finish(another.seek(5n));
    another.free();
    assert.equal(pool.used, used);
  });
});

test('what was not recorded is found, with where and what', async () => {
  let machine: Machine | undefined;
  machine = recipeMachine({ harts: 2, sbi: false, seed: SEED + 1, rounds: 10_000 }, { slice: 700 });
  let turn = 0;
  const spoil = () => {
    if (++turn !== 3) return;
    machine!.ram.write(RAM_BASE + 0x1f0_0123, Uint8Array.of(7));
    const hart = machine!.hartSet.record(1);
    hart.set('sscratch', hart.get('sscratch') ^ 1n);
  };
  const { recording } = await recorded(machine, 30_000, 6, spoil);
  const timeline = new Timeline(sharedEngine(), recording);
  assert.throws(
    () => finish(timeline.run()),
    (error: unknown) => {
      assert.ok(error instanceof DivergenceError);
      const { from, at, differences } = error.divergence;
      assert.equal(from, recording.keyframes[2]!.at);
      assert.equal(at, recording.keyframes[3]!.at);
      assert.deepEqual(
        differences.map(({ where }) => where),
        ['hart 1 sscratch', 'ram 0x81f00120'],
      );
      return true;
    },
  );
  timeline.free();
});

test('the default guest, from its start: a moment of idleness, and typing', { skip: guestMissing }, async () => {
  const run = await recorded(linuxMachine({ harts: 2 }), 40_000_000, 4);
  const timeline = new Timeline(sharedEngine(), run.recording);
  for (const part of [5n, 1n, 3n]) {
    const at = (run.end * part) / 6n;
    finish(timeline.seek(at));
    assert.equal(recordedHash(timeline.machine), run.hashAt(at));
  }
  finish(timeline.run());
  assert.equal(recordedHash(timeline.machine), run.recording.end.hash);
  timeline.free();
});
