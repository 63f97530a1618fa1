/** Recordings that nobody made, with checksums that are right: what a timeline makes of them is theirs or a typed error, and it ends. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { recordedHash } from '../machine/hash.ts';
import type { MachineRecord } from '../machine/save.ts';
import { decodeState, encodeState } from '../state/encode.ts';
import { recipeMachine, runSteps, runs, SEED, sharedEngine } from '../testing/machines.ts';
import { MemorySink, memorySource, Recorder } from '../testing/recordings.ts';
import { chunksOf, rewritten } from '../testing/sample-recording.ts';
import { ByteReader } from './recording/bytes.ts';
import type { ChunkKind } from './recording/chunk.ts';
import { encodeEvents, readEvents, readEventsHead } from './recording/events.ts';
import { decodeKeyframe, KeyframeEncoder, ZERO_PAGE } from './recording/keyframe.ts';
import { Recording } from './recording/reader.ts';
import { Timeline } from './timeline.ts';

const STEPS = 6000;
const PAGES = (32 * 2 ** 20) / 4096;
/** Turns after which a run counts as one that goes on: 4 M steps each. */
const TURNS = 3;

async function recorded(): Promise<Uint8Array> {
  const machine = recipeMachine({ harts: 2, sbi: true, seed: 3, rounds: 10_000 }, { slice: 300 });
  const sink = new MemorySink();
  const recorder = new Recorder(machine, sink);
  runSteps(machine, 0);
  for (let n = 0; n < 4; n++) {
    await recorder.keyframe();
    machine.input({ kind: 'console', bytes: Uint8Array.of(n) });
    machine.input({ kind: 'time', advance: 3000n });
    runSteps(machine, STEPS);
  }
  machine.run(0);
  await recorder.events();
  const { position, now: time, exit } = machine;
  const hash = recordedHash(machine);
  await recorder.writer.end({ at: recorder.at, stretch: 0, position, time, hash, exit, why: 'over' });
  recorder.free();
  return sink.bytes();
}

const good = await recorded();
const { pool } = sharedEngine();

type Outcome = 'end' | 'on' | { readonly code: string; readonly message: string };
/** The code of an outcome where the recording is used up to a chunk that is refused. */
const PART = 'used in part';

/** Opens a recording, runs to its end, and goes back to a moment in it. Nothing may be left in the pool. */
function outcomeOf(bytes: Uint8Array): Outcome {
  const { used } = pool;
  const errors: Error[] = [];
  let timeline: Timeline | undefined;
  let on = false;
  let refused: string | undefined;
  const attempt = (work: () => void) => {
    try {
      work();
    } catch (error) {
      errors.push(error as Error);
    }
  };
  attempt(() => {
    const recording = Recording.open(memorySource(bytes), []);
    const { stopped, keyframes, complete, end } = recording;
    if (stopped) {
      assert.equal(complete, false);
      assert.ok(end.at >= keyframes.at(-1)!.at);
      refused = stopped.why;
    }
    timeline = new Timeline(sharedEngine(), recording);
  });
  if (timeline) {
    const { end, recording } = timeline;
    const follow = (way: Generator) => {
      for (let turn = 0; !way.next().done; turn++) if (turn === TURNS) return (on = true);
      return undefined;
    };
    attempt(() => follow(timeline!.run()));
    // From the file again, each of the states that it has.
    for (const { at } of recording.keyframes.toReversed()) attempt(() => follow(timeline!.seek(at)));
    for (const at of [end / 2n, end, 0n]) attempt(() => follow(timeline!.seek(at)));
    timeline.free();
  }
  assert.equal(pool.used, used, 'nothing is left in the pool');
  for (const error of errors) {
    const { code } = error as Error & { code?: string };
    assert.match(code ?? '', /^ERR_BRAID_(RECORDING|DIVERGENCE)$/, error.stack);
  }
  const [first] = errors;
  if (first) return { code: (first as Error & { code: string }).code, message: first.message };
  return refused === undefined ? (on ? 'on' : 'end') : { code: PART, message: refused };
}

test('as it was written it comes to its end', () => {
  assert.equal(outcomeOf(good), 'end');
});

test('whoever waits can leave at each of many keyframes of one moment', async () => {
  const machine = recipeMachine({ harts: 1, sbi: false, seed: 3, rounds: 10 });
  const sink = new MemorySink();
  const recorder = new Recorder(machine, sink);
  const count = 20;
  for (let n = 0; n < count; n++) await recorder.keyframe();
  recorder.free();
  const timeline = new Timeline(sharedEngine(), Recording.open(memorySource(sink.bytes()), []));
  let turns = 0;
  for (const _ of timeline.run()) turns++;
  timeline.free();
  assert.ok(turns >= count - 1, `${turns} turns`);
});

test('a bit that is another one, in each chunk', () => {
  let keyframes = 0;
  for (const { to, kind } of chunksOf(good)) {
    const bytes = good.slice();
    bytes[to - 1]! ^= 1;
    const found = outcomeOf(bytes);
    const before = keyframes;
    if (kind === 'keyframe') keyframes++;
    // Perhaps of pages that nobody reads.
    if ((kind === 'changes' || kind === 'hashes') && found === 'end') continue;
    const code = before === 0 || kind === 'changes' || kind === 'hashes' ? 'ERR_BRAID_RECORDING' : PART;
    assert.ok(typeof found === 'object' && found.code === code, `${kind}: ${found}`);
  }
  assert.ok(keyframes > 2);
});

test(`damage never replays as something else (seed ${SEED})`, () => {
  const whole = Recording.open(memorySource(good), []);
  const finish = (way: Generator) => {
    while (!way.next().done);
  };
  const hashAt = (timeline: Timeline, at: bigint) => {
    finish(timeline.seek(at));
    return recordedHash(timeline.machine);
  };
  /** What work gives, or the error, which has to be one of the file. */
  const attempted = <T>(work: () => T): T | Error => {
    try {
      return work();
    } catch (error) {
      assert.match((error as Error & { code?: string }).code ?? '', /^ERR_BRAID_RECORDING$/, (error as Error).stack);
      return error as Error;
    }
  };
  const hashes = new Map(whole.keyframes.map(({ at, hash }) => [at, hash]));
  let parts = 0;
  let failed = 0;
  const original = new Timeline(sharedEngine(), whole);
  const byte = fc.record({ at: fc.nat(), bit: fc.nat(7) });
  const tail = fc.option(fc.record({ to: fc.nat(), from: fc.nat() }), { freq: 5, nil: undefined });
  fc.assert(
    fc.property(fc.array(byte, { minLength: 1, maxLength: 3 }), tail, (flips, copy) => {
      const bytes = good.slice();
      for (const { at, bit } of flips) bytes[at % bytes.length]! ^= 1 << bit;
      if (copy) bytes.copyWithin(copy.to % bytes.length, copy.from % bytes.length);
      const opened = attempted(() => new Timeline(sharedEngine(), Recording.open(memorySource(bytes), [])));
      if (opened instanceof Error) return;
      const timeline = opened;
      try {
        const { recording, end } = timeline;
        if (recording.stopped) parts++;
        assert.ok(end <= whole.end.at && (end === whole.end.at || !recording.complete));
        const keyframes = recording.keyframes.map((keyframe) => keyframe.at);
        // Also behind places that cannot be reached.
        for (const at of [end, ...keyframes, ...keyframes.map((at) => at / 2n), end]) {
          const found = attempted(() => hashAt(timeline, at));
          if (found instanceof Error) failed++;
          // At its end what entered at that same moment may be in the part that is refused.
          else if (at !== end || found !== hashes.get(at)) assert.equal(found, hashAt(original, at));
        }
      } finally {
        timeline.free();
      }
    }),
    runs(150),
  );
  original.free();
  assert.ok(parts > 20, `${parts} were used in part`);
  assert.ok(failed > 5, `${failed} places could not be reached`);
});

/** Another content for the nth chunk of a kind. */
function with_(kind: ChunkKind, nth: number, change: (content: Uint8Array) => Uint8Array): Uint8Array {
  const chunk = chunksOf(good).flatMap((one, n) => (one.kind === kind ? n : []))[nth];
  assert.ok(chunk !== undefined, `there is no ${kind} ${nth}`);
  return rewritten(good, (_, content, n) => (n === chunk ? change(content) : content));
}

type Parts = ReturnType<typeof decodeKeyframe>;

/** A keyframe with other parts. */
function keyframe(nth: number, change: (parts: Parts, record: Record<string, never>) => Partial<Parts>): Uint8Array {
  return with_('keyframe', nth, (content) => {
    const parts = decodeKeyframe(new ByteReader(content), PAGES);
    const record = decodeState(parts.record) as Record<string, never>;
    const other = { ...parts, ...change(parts, record) };
    const encoder = new KeyframeEncoder(other, other.written, record as unknown as MachineRecord);
    for (const page of other.pages) encoder.page(page & ~ZERO_PAGE, (page & ZERO_PAGE) !== 0);
    return encoder.finish(other.firstContent, other.hashed);
  });
}

/** A keyframe whose state has another value at a path. */
const state = (nth: number, path: string, value: unknown) =>
  keyframe(nth, (_, record) => {
    const names = path.split('.');
    const last = names.pop()!;
    let at = record as Record<string, unknown>;
    for (const name of names) at = at[name] as typeof at;
    assert.ok(last in at, path);
    at[last] = value;
    return {};
  });

const end = (change: object) =>
  with_('end', 0, (content) => encodeState({ ...(decodeState(content) as object), ...change }));
const info = (change: object) =>
  with_('start', 0, (content) => encodeState({ ...(decodeState(content) as object), ...change }));
const events = (change: (event: ReturnType<typeof eventsOf>) => ReturnType<typeof eventsOf>) =>
  with_('events', 0, (content) => encodeEvents(0, change(eventsOf(content)))[0]!);
function eventsOf(content: Uint8Array) {
  const reader = new ByteReader(content);
  readEventsHead(reader);
  return [...readEvents(reader)];
}

describe('what is wrong is said, and where', () => {
  const cases: Record<string, [Uint8Array, string]> = {
    'a keyframe that says it is later': [
      keyframe(1, ({ moment }) => ({ moment: { ...moment, at: moment.at + 7n } })),
      'DIVERGENCE',
    ],
    'one that says it is earlier': [
      keyframe(2, ({ moment }) => ({ moment: { ...moment, at: moment.at - 7n } })),
      'DIVERGENCE',
    ],
    'a first one that is not at the beginning': [
      keyframe(0, ({ moment }) => ({ moment: { ...moment, at: moment.at + 3n } })),
      'RECORDING',
    ],
    'more steps than the harts have made': [keyframe(0, ({ steps }) => ({ steps: steps + 100_000n })), 'RECORDING'],
    'fewer steps than the harts have made': [state(0, 'harts.1.fields.stepsEnd', 50n), 'RECORDING'],
    'another hash': [keyframe(1, () => ({ hash: 'feed' })), 'DIVERGENCE'],
    'another guest time': [
      keyframe(1, ({ moment }) => ({ moment: { ...moment, time: moment.time - 1n } })),
      'RECORDING',
    ],
    'another position': [
      keyframe(1, ({ moment }) => ({ moment: { ...moment, position: { round: 1n, hart: 0, step: 0 } } })),
      'RECORDING',
    ],
    // As of an alarm that no format has a number for.
    'a time that there is not': [
      with_('keyframe', 2, (content) => {
        const bytes = content.slice();
        bytes.fill(0xff, 2, 12);
        return bytes;
      }),
      'PART',
    ],
    'a stretch more': [keyframe(1, () => ({ stretch: 1 })), 'PART'],
    'contents of a keyframe before': [keyframe(1, () => ({ firstContent: 0 })), 'PART'],
    'less memory in a state': [state(0, 'configuration.memory', 2 ** 25 - 4096), 'RECORDING'],
    'more memory in a state': [state(0, 'configuration.memory', 2 ** 26), 'RECORDING'],
    'more memory in a later state': [state(1, 'configuration.memory', 2 ** 26), 'RECORDING'],
    'more memory in all': [info({ memory: 2 ** 26 }), 'RECORDING'],
    'other harts': [state(1, 'configuration.harts', 1), 'RECORDING'],
    'other slices': [state(1, 'configuration.slice', 100), 'RECORDING'],
    'disks that are not there': [state(0, 'configuration.disks', [4096n]), 'RECORDING'],
    'a disk that no machine has': [info({ disks: [{ size: 4096n, readOnly: false, name: 'a' }] }), 'RECORDING'],
    'an end much later': [end({ at: 1n << 60n }), 'DIVERGENCE'],
    'an end before the last keyframe': [end({ at: 5n }), 'PART'],
    'an end with another hash': [end({ hash: 'beef' }), 'DIVERGENCE'],
    'an end in another stretch': [end({ stretch: 3 }), 'PART'],
    'an event of a hart that is not there': [
      events(([first]) => [{ ...first!, position: { ...first!.position, hart: 7 } }]),
      'DIVERGENCE',
    ],
    'an answer for a hart that is not there': [
      events(([first]) => [{ ...first!, event: { kind: 'hint', hart: 6, value: 1n } }]),
      'DIVERGENCE',
    ],
    'an event with more time than there is': [
      events(([first]) => [{ ...first!, event: { kind: 'time', advance: (1n << 63n) - 1n } }]),
      'DIVERGENCE',
    ],
    'an event for which there is no time': [events(([first]) => [{ ...first!, time: 1n }]), 'DIVERGENCE'],
    'a frame as large as a frame can be': [
      events(([first]) => [{ ...first!, event: { kind: 'frame', bytes: new Uint8Array(2 ** 18) } }]),
      'DIVERGENCE',
    ],
    'no events': [events(() => []), 'DIVERGENCE'],
  };
  for (const [name, [bytes, code]] of Object.entries(cases)) {
    test(name, () => {
      const found = outcomeOf(bytes);
      assert.ok(typeof found === 'object', `${found}`);
      assert.equal(found.code, code === 'PART' ? PART : `ERR_BRAID_${code}`, found.message);
    });
  }
});

test(`any byte of any chunk (seed ${SEED})`, () => {
  const chunks = chunksOf(good);
  const outcomes = new Map<string, number>();
  fc.assert(
    fc.property(fc.nat(chunks.length - 1), fc.nat(), fc.nat(255), fc.nat(7), (chunk, place, byte, how) => {
      const bytes = rewritten(good, (_, content, n) => {
        if (n !== chunk) return content;
        const at = place % content.length;
        if (how === 0) return content.slice(0, at);
        content[how < 4 ? at % 16 : at]! = byte;
        return content;
      });
      const found = outcomeOf(bytes);
      const name = typeof found === 'object' ? found.code : found;
      outcomes.set(name, (outcomes.get(name) ?? 0) + 1);
    }),
    runs(300),
  );
  for (const code of ['ERR_BRAID_RECORDING', 'ERR_BRAID_DIVERGENCE', PART, 'end']) {
    assert.ok((outcomes.get(code) ?? 0) > 3, `${code} of ${JSON.stringify([...outcomes])}`);
  }
});
