import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { type InputEvent, type LoggedEvent, restoreLog } from '../../machine/log.ts';
import { StateError } from '../../state/errors.ts';
import { runs, SEED } from '../../testing/machines.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { encodeEvents, readEvents, readEventsHead } from './events.ts';
import type { Moment } from './moment.ts';

const U63 = (1n << 63n) - 1n;
const u64 = fc.oneof(fc.bigInt(0n, 300n), fc.bigInt(0n, (1n << 64n) - 1n));
const u63 = fc.oneof(fc.bigInt(0n, 300n), fc.bigInt(0n, U63));
const bytes = fc.uint8Array({ maxLength: 300 });
const port = fc.integer({ min: 0, max: 1 });
const u16 = fc.integer({ min: 0, max: 0xffff });
const hart = fc.integer({ min: 0, max: 7 });

const eventKinds: { [K in InputEvent['kind']]: fc.Arbitrary<Extract<InputEvent, { kind: K }>> } = {
  console: fc.record({ kind: fc.constant('console'), bytes }),
  port: fc.record({ kind: fc.constant('port'), port, bytes }),
  'port-open': fc.record({ kind: fc.constant('port-open'), port, open: fc.boolean() }),
  resize: fc.record({ kind: fc.constant('resize'), columns: u16, rows: u16 }),
  time: fc.record({ kind: fc.constant('time'), advance: u63 }),
  'skip-idle': fc.record({ kind: fc.constant('skip-idle'), on: fc.boolean() }),
  frame: fc.record({ kind: fc.constant('frame'), bytes }),
  link: fc.record({ kind: fc.constant('link'), up: fc.boolean() }),
  reseed: fc.record({ kind: fc.constant('reseed'), seed: u64 }),
  address: fc.record({ kind: fc.constant('address'), mac: fc.uint8Array({ minLength: 6, maxLength: 6 }) }),
  hint: fc.record(
    {
      kind: fc.constant('hint'),
      hart,
      value: u64,
      writes: fc.array(fc.record({ address: u64, bytes }), { maxLength: 4 }),
    },
    { requiredKeys: ['kind', 'hart', 'value'], noNullPrototype: true },
  ),
};
const event: fc.Arbitrary<InputEvent> = fc.oneof(...Object.values<fc.Arbitrary<InputEvent>>(eventKinds));

/** Events as a machine logs them: neither positions nor times go back. */
const log: fc.Arbitrary<LoggedEvent[]> = fc
  .array(fc.record({ rounds: fc.oneof(fc.constant(0n), u63), hart, step: u63, event }), { maxLength: 40 })
  .map((items) => {
    let round = 0n;
    let time = 0n;
    let last = 0;
    return items.flatMap(({ rounds, hart, step, event }): LoggedEvent[] => {
      if (round + rounds > U63 || time + step > U63) return [];
      if (rounds > 0n) last = 0;
      round += rounds;
      time += step;
      last = Math.max(last, hart);
      return [{ position: { round, hart: last, step: 0 }, time, event }];
    });
  });
const moment: fc.Arbitrary<Moment> = fc.record({
  at: u64,
  position: fc.record({ round: u64, hart, step: fc.nat(1000) }, { noNullPrototype: true }),
  time: u63,
});

function decoded(content: Uint8Array) {
  const reader = new ByteReader(content);
  return { ...readEventsHead(reader), events: [...readEvents(reader)] };
}

test(`events of every kind come back, and are what the log takes (seed ${SEED})`, () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(log, fc.nat(), fc.option(moment, { nil: undefined }), (events, stretch, reached) => {
      const chunks = encodeEvents(stretch, events, reached);
      assert.equal(chunks.length, 1);
      assert.deepEqual(plain(decoded(chunks[0]!)), plain({ stretch, reached, events }));
      assert.deepEqual(restoreLog({ version: 1, events: decoded(chunks[0]!).events }).events.length, events.length);
      for (const { event } of events) seen.add(event.kind);
    }),
    runs(300),
  );
  assert.deepEqual([...seen].sort(), Object.keys(eventKinds).sort());
});

/** Without the prototypes that fast-check varies. */
function plain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, plain(field)]));
}

test('many events go to several chunks, each whole in itself; the moment reached is in the last', () => {
  const reached: Moment = { at: 5n, position: { round: 9_000_000n, hart: 1, step: 3 }, time: 77n };
  const events = Array.from(
    { length: 3000 },
    (_, n): LoggedEvent => ({
      position: { round: BigInt(n), hart: n % 8, step: 0 },
      time: BigInt(n) * 1000n,
      event: { kind: 'frame', bytes: new Uint8Array(300).fill(n) },
    }),
  );
  const chunks = encodeEvents(3, events, reached);
  assert.equal(chunks.length, 4);
  for (const chunk of chunks.slice(0, -1)) assert.ok(chunk.length < 2 ** 18 + 400 && chunk.length >= 2 ** 18);
  const found = chunks.map(decoded);
  assert.deepEqual(
    found.flatMap(({ events }) => events),
    events,
  );
  assert.deepEqual(
    found.map(({ reached }) => reached),
    [undefined, undefined, undefined, reached],
  );
});

describe('what a machine paced to real time costs', () => {
  // Corrected every few ms: idle, when all that passes is the correction, and busy.
  const corrections = (busy: boolean) => {
    let time = 123_456_789_000n;
    return Array.from({ length: 10_000 }, (_, n): LoggedEvent => {
      const advance = 3_000_000n + BigInt((n * 7919) % 400_000);
      const logged = {
        position: { round: 1000n + BigInt(busy ? 3 * n : 0), hart: 0, step: 0 },
        time,
        event: { kind: 'time', advance } as const,
      };
      time += advance + (busy ? 1_500_000n + BigInt((n * 104_729) % 900_000) : 0n);
      return logged;
    });
  };
  for (const [busy, most] of [
    [false, 7.1],
    [true, 10.1],
  ] as const) {
    test(busy ? 'busy' : 'idle', () => {
      const chunks = encodeEvents(0, corrections(busy));
      const size = chunks.reduce((sum, { length }) => sum + length, 0);
      const packed = chunks.reduce((sum, chunk) => sum + deflateRawSync(chunk, { level: 1 }).length, 0);
      assert.ok(size / 10_000 < most, `${size / 10_000} bytes an event`);
      assert.ok(packed < size, `${packed / 10_000} bytes an event, compressed`);
    });
  }
});

test('events that no machine has logged are not written', () => {
  const good: LoggedEvent = { position: { round: 5n, hart: 1, step: 0 }, time: 9n, event: { kind: 'link', up: true } };
  const bad: LoggedEvent[] = [
    { ...good, position: { ...good.position, step: 1 } },
    { ...good, position: { ...good.position, round: 4n } },
    { ...good, event: { kind: 'resize', columns: -1, rows: 2 } },
    { ...good, event: { kind: 'reseed', seed: 1n << 64n } },
  ];
  for (const event of bad) assert.throws(() => encodeEvents(0, [good, event]), RangeError);
});

test(`content that nobody wrote is refused, or is events that a log takes (seed ${SEED})`, () => {
  let refused = 0;
  let taken = 0;
  const check = (content: Uint8Array) => {
    try {
      const { events } = decoded(content);
      assert.equal(restoreLog({ version: 1, events }).events.length, events.length);
      taken++;
    } catch (error) {
      assert.ok(error instanceof StateError, (error as Error).stack);
      refused++;
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), check), runs(2000));
  fc.assert(
    fc.property(log, fc.nat(), fc.nat(255), (events, at, byte) => {
      const content = encodeEvents(0, events)[0]!;
      content[at % content.length] = byte;
      check(content);
      check(content.subarray(0, at % content.length));
    }),
    runs(500),
  );
  assert.ok(refused > 100 && taken > 100, `${refused} refused, ${taken} taken`);
});

describe('numbers', () => {
  test('come back', () => {
    fc.assert(
      fc.property(u64, fc.nat({ max: Number.MAX_SAFE_INTEGER }), (wide, number) => {
        const writer = new ByteWriter();
        writer.wide(wide);
        writer.number(number);
        const reader = new ByteReader(writer.take());
        assert.deepEqual([reader.wide(), reader.number()], [wide, number]);
        assert.equal(reader.left, 0);
      }),
      runs(1000),
    );
    for (const edge of [0n, 127n, 128n, (1n << 49n) - 1n, 1n << 49n, (1n << 53n) - 1n, 1n << 53n, (1n << 64n) - 1n]) {
      const writer = new ByteWriter();
      writer.wide(edge);
      assert.equal(new ByteReader(writer.take()).wide(), edge);
    }
  });

  test('that are too large, or do not end, are refused', () => {
    const of = (...bytes: number[]) => new ByteReader(Uint8Array.from(bytes));
    const max = Array.from({ length: 9 }, () => 0xff);
    assert.throws(() => of(...max, 2).wide(), StateError);
    assert.throws(() => of(...max, 0x80, 0).wide(), StateError);
    assert.throws(() => of(...max, 0).number(), StateError);
    assert.throws(() => of(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0).number(), StateError);
    assert.throws(() => of(0x80).number(), StateError);
    assert.throws(() => of(5).number(4), StateError);
    assert.throws(() => of(3, 1, 2).sized(9), StateError);
    assert.throws(() => of(3, 1, 2, 3).ascending(6), StateError);
  });

  test('that ascend come back', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 0xffff_ffff }), { maxLength: 50 }), (values) => {
        const writer = new ByteWriter();
        const sorted = Uint32Array.from(values).sort();
        writer.ascending(sorted);
        assert.deepEqual(new ByteReader(writer.take()).ascending(2 ** 32), sorted);
      }),
      runs(200),
    );
    assert.throws(() => new ByteWriter().ascending(Uint32Array.of(3, 3)), RangeError);
  });
});
