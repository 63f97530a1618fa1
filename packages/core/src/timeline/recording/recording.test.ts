import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { forkPoint, freeForkPoint } from '../../branch/fork-point.ts';
import { stateHash } from '../../machine/hash.ts';
import { LogReader } from '../../machine/log.ts';
import type { Machine } from '../../machine/machine.ts';
import { restoreMachine } from '../../machine/save.ts';
import { FrameMap, type MapRoots } from '../../memory/frame-map.ts';
import { FrameHash } from '../../memory/hash.ts';
import { ENTRY_FRAME, PAGE } from '../../memory/layout.ts';
import { recipeMachine, runSteps, runs, SEED, sharedEngine } from '../../testing/machines.ts';
import type { Recipe } from '../../testing/programs.ts';
import { Random } from '../../testing/random.ts';
import { MemorySink, memorySource } from '../../testing/recordings.ts';
import type { RecordingInfo } from './info.ts';
import { Recording } from './reader.ts';
import { RecordingWriter } from './writer.ts';

const recipe: fc.Arbitrary<Recipe> = fc.record({
  harts: fc.integer({ min: 1, max: 4 }),
  sbi: fc.boolean(),
  seed: fc.integer({ min: 0, max: 0xffff_ffff }),
  rounds: fc.constant(200),
});

function infoOf({ options }: Machine): RecordingInfo {
  return {
    braid: '0',
    console: 'serial',
    memory: options.memory,
    harts: options.harts,
    seed: options.seed,
    epoch: 0n,
    disks: [],
    time: 'virtual',
    title: 'a test',
  };
}

/** Records keyframes of a machine as it runs, and keeps what each of its pages held. */
class Recorder {
  readonly sink = new MemorySink();
  readonly writer: RecordingWriter;
  readonly keyframes: { readonly ram: Map<number, Buffer>; readonly hash: string; readonly at: bigint }[] = [];
  private readonly machine: Machine;
  private before: MapRoots | undefined;
  private held: (() => void)[] = [];
  private logged = 0;
  private first: bigint;

  constructor(machine: Machine) {
    this.machine = machine;
    this.writer = new RecordingWriter(this.sink, machine.engine.pool);
    this.first = machine.totalSteps;
    this.logged = machine.log.length;
    void this.writer.start(infoOf(machine));
  }

  get at(): bigint {
    return this.machine.totalSteps - this.first;
  }

  events(): Promise<void> {
    const events = this.machine.log.events.slice(this.logged);
    this.logged = this.machine.log.length;
    const { position, now: time } = this.machine;
    return this.writer.events(0, events, { at: this.at, position, time });
  }

  keyframe(): Promise<void> {
    const { machine } = this;
    const hash = stateHash(machine);
    if (this.keyframes.length > 0) void this.events();
    const { pool } = machine.engine;
    const point = forkPoint(machine);
    const map = new FrameMap(pool, machine.ram.pages, { roots: point.ram });
    this.held.push(() => freeForkPoint(pool, point));
    const frame = (page: number) => map.entry(page) & ENTRY_FRAME;
    const ram = new Map<number, Buffer>();
    for (const page of map.changed()) {
      const bytes = Buffer.from(pool.bytes.slice(frame(page) * PAGE, (frame(page) + 1) * PAGE));
      if (bytes.some((byte) => byte !== 0)) ram.set(page, bytes);
    }
    this.keyframes.push({ ram, hash, at: this.at });
    const frameHash = new FrameHash(pool, machine.engine.scratch);
    const pages = map.changed(this.before);
    this.before = point.ram;
    return this.writer.keyframe({
      stretch: 0,
      at: this.at,
      record: point.record,
      hash,
      pages,
      frame,
      hashOf: (frame) => {
        if (!frameHash.known(frame)) frameHash.keep(frame);
        return frameHash.of(frame);
      },
      written: [],
    });
  }

  free(): void {
    for (const free of this.held) free();
    this.machine.free();
  }
}

/** A machine in the state of a keyframe, made of nothing but the recording. */
function restored(recording: Recording, keyframe: number): Machine {
  const pages = recording.pages(keyframe);
  const content = new Uint8Array(pages.length * PAGE);
  pages.forEach((page, i) => {
    recording.content(recording.version(keyframe, page), content.subarray(i * PAGE, (i + 1) * PAGE));
  });
  const ram = pages.length === 0 ? [] : [...pieces(pages, content)];
  return restoreMachine(sharedEngine(), { ...recording.record(keyframe), ram });
}

function* pieces(pages: Uint32Array, content: Uint8Array) {
  for (let from = 0; from < pages.length; from += 4096) {
    const part = pages.slice(from, from + 4096);
    yield { pages: part, content: content.subarray(from * PAGE, (from + part.length) * PAGE) };
  }
}

test(`keyframes of a machine that runs on give back every page, and replay from each (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(recipe, fc.integer({ min: 0, max: 0xffff_ffff }), async (recipe, seed) => {
      const choices = new Random(seed);
      const machine = recipeMachine(recipe, { slice: 1 + choices.below(500) });
      runSteps(machine, choices.below(1000));
      const recorder = new Recorder(machine);
      for (let n = 0; n < 6; n++) {
        if (n > 0 && choices.chance(0.5)) void recorder.events();
        void recorder.keyframe();
        for (let turn = choices.below(4); turn > 0; turn--) {
          machine.input({ kind: 'console', bytes: Uint8Array.of(choices.below(256)) });
          machine.input({ kind: 'time', advance: BigInt(choices.below(5000)) });
          runSteps(machine, choices.below(900));
        }
      }
      void recorder.events();
      const end = { hash: stateHash(machine), at: recorder.at, position: machine.position, time: machine.now };
      await recorder.writer.end({ ...end, stretch: 0, exit: machine.exit, why: 'over' });
      const recording = Recording.open(memorySource(recorder.sink.bytes()), []);
      assert.ok(recording.complete);
      assert.deepEqual(recording.end, { ...end, stretch: 0, exit: machine.exit, why: 'over' });
      assert.deepEqual(recording.info, infoOf(machine));
      assert.equal(recording.keyframes.length, 6);
      for (const [n, { ram, hash, at }] of recorder.keyframes.entries()) {
        assert.equal(recording.keyframes[n]!.hash, hash);
        assert.equal(recording.keyframes[n]!.at, at);
        assert.deepEqual([...recording.pages(n)], [...ram.keys()]);
      }
      for (const n of [5, 0, choices.below(6)]) {
        const again = restored(recording, n);
        const { keyframes, stretches } = recording;
        assert.equal(stateHash(again), keyframes[n]!.hash);
        const { log, from, firstSteps } = stretches[0]!;
        again.follow(new LogReader(log, keyframes[n]!.events));
        runSteps(again, Number(end.at - (again.totalSteps - firstSteps + from)));
        assert.equal(stateHash(again), end.hash);
        again.free();
      }
      recorder.free();
    }),
    runs(20),
  );
});
