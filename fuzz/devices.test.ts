/**
 * Hostile guests against every device: random register programs, random guest memory, random host events.
 *
 * A device must not throw, must not hang, must not reach for memory outside RAM; a run in which the device is saved and restored
 * at random points, into a fresh device, must be equal to the run in which it is not; and for disks a host that answers late must
 * make no difference either.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Clint } from '../packages/core/src/devices/clint/device.ts';
import type { AccessSize, Device } from '../packages/core/src/devices/device.ts';
import { Finisher } from '../packages/core/src/devices/finisher/device.ts';
import { Plic } from '../packages/core/src/devices/plic/device.ts';
import { Rtc } from '../packages/core/src/devices/rtc/device.ts';
import { same, TestContext, TestDriver, TestMemory } from '../packages/core/src/devices/testing.ts';
import { Uart } from '../packages/core/src/devices/uart/device.ts';
import { type BlockBackend, MemoryBackend } from '../packages/core/src/devices/virtio-block/backend.ts';
import { VirtioBlock } from '../packages/core/src/devices/virtio-block/device.ts';
import { VirtioConsole } from '../packages/core/src/devices/virtio-console/device.ts';
import { VirtioEntropy } from '../packages/core/src/devices/virtio-entropy/device.ts';
import { VirtioNet } from '../packages/core/src/devices/virtio-net/device.ts';
import { StateError } from '../packages/core/src/state/errors.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 500);

/** Events of one device between two time steps, at most: more than any honest program of this test can cause. */
const EVENTS_MAX = 10_000;

const RAM = 0x8000_0000;
const RAM_SIZE = 0x2_0000;

/** Where random buffers lie: after the queues of a `TestDriver` with six queues. */
const BUFFERS = 0x1_2000;

/** Complains when a device reaches for memory that is not there, which the machine would only refuse. */
class FencedMemory extends TestMemory {
  override read(address: number, into: Uint8Array): boolean {
    assert.ok(this.contains(address, into.length), `read of ${into.length} bytes at ${address}`);
    return super.read(address, into);
  }

  override write(address: number, bytes: Uint8Array): boolean {
    assert.ok(this.contains(address, bytes.length), `write of ${bytes.length} bytes at ${address}`);
    return super.write(address, bytes);
  }
}

/** A device in its world. `make` builds a fresh device in the same world, to restore a record into. */
interface Setting {
  readonly context: TestContext;
  make(): Device;
  /** Something that the host does; `amount` gives it size and kind. */
  host?(device: Device, amount: number): unknown;
  /** All that the device has done to its world besides memory. */
  seen(): unknown;
}

interface Subject {
  readonly name: string;
  /** Registers worth hitting; others are hit now and then. */
  readonly registers: readonly number[];
  /** Queue sizes, for virtio devices. */
  readonly queues?: readonly number[];
  setting(): Setting;
}

const word = (from: number, count: number, stride = 4) =>
  Array.from({ length: count }, (_, index) => from + stride * index);
const virtioRegisters = [
  ...word(0, 5),
  ...word(0x10, 2),
  ...word(0x20, 2),
  ...word(0x30, 3),
  0x44,
  0x50,
  0x60,
  0x64,
  0x70,
  ...word(0x80, 2),
  ...word(0x90, 2),
  ...word(0xa0, 2),
  ...word(0xac, 6),
  ...word(0xfc, 17),
];

function lines(): { seen: unknown[]; set: (...change: unknown[]) => void } {
  const levels = new Map<string, unknown>();
  const seen: unknown[] = [];
  return {
    seen,
    // Only changes count: calls that change nothing are free, and a restored device makes some.
    set: (...change) => {
      const name = change.slice(0, -1).join(' ');
      if ((levels.get(name) ?? false) === change.at(-1)) return;
      levels.set(name, change.at(-1));
      seen.push(change.join(' '));
    },
  };
}

/** Answers when the test's promises run, never at once. */
class LateBackend extends MemoryBackend {
  override async read(offset: number, into: Uint8Array): Promise<void> {
    await Promise.resolve();
    super.read(offset, into);
  }

  override async write(offset: number, bytes: Uint8Array): Promise<void> {
    const copy = bytes.slice();
    await Promise.resolve();
    super.write(offset, copy);
  }

  override async flush(): Promise<void> {
    await Promise.resolve();
  }
}

const disk = () => Uint8Array.from({ length: 32 * 512 }, (_, index) => index % 251);

function blockSetting(backend: BlockBackend & { bytes: Uint8Array }): Setting {
  const context = new TestContext(new FencedMemory(RAM_SIZE));
  return { context, make: () => new VirtioBlock(context, backend), seen: () => backend.bytes };
}

const subjects: readonly Subject[] = [
  {
    name: 'uart',
    registers: word(0, 8, 1),
    setting: () => {
      const context = new TestContext();
      let text = '';
      const output = (bytes: Uint8Array) => {
        text += String.fromCharCode(...bytes);
      };
      const devices: Uart[] = [];
      return {
        context,
        make: () => {
          const device = new Uart(context, output);
          devices.push(device);
          return device;
        },
        host: (device, amount) => (device as Uart).receive(new Uint8Array(amount % 70_000).fill(amount)),
        seen: () => {
          for (const device of devices) device.flushOutput();
          return text;
        },
      };
    },
  },
  {
    name: 'plic',
    registers: [
      ...word(0, 100),
      ...word(0x1000, 4),
      ...word(0x2000, 4),
      ...word(0x2080, 4),
      0x20_0000,
      0x20_0004,
      0x20_3000,
      0x20_3004,
    ],
    setting: () => {
      const { seen, set } = lines();
      return {
        context: new TestContext(),
        make: () => new Plic({ harts: 2, setExternal: set }),
        host: (device, amount) => (device as Plic).setLevel(1 + (amount % 95), (amount & 0x80) !== 0),
        seen: () => seen,
      };
    },
  },
  {
    name: 'clint',
    registers: [...word(0, 3), ...word(0x4000, 6), 0xbff8, 0xbffc],
    setting: () => {
      const { seen, set } = lines();
      const context = new TestContext();
      let offset = 0n;
      const clock = {
        harts: 2,
        now: () => context.time,
        ticks: () => BigInt.asUintN(64, context.time / 100n + offset),
        setTime: (ticks: bigint) => {
          offset = ticks - context.time / 100n;
        },
        setSoftware: (hart: number, level: boolean) => set('software', hart, level),
        setTimer: (hart: number, level: boolean) => set('timer', hart, level),
      };
      return { context, make: () => new Clint(clock), seen: () => [seen, offset] };
    },
  },
  {
    name: 'rtc',
    registers: word(0, 9),
    setting: () => {
      const context = new TestContext();
      return { context, make: () => new Rtc(context, 1_700_000_000_000_000_000n), seen: () => undefined };
    },
  },
  {
    name: 'finisher',
    registers: [0, 4],
    setting: () => {
      const ends: unknown[] = [];
      return { context: new TestContext(), make: () => new Finisher((end) => ends.push(end)), seen: () => ends };
    },
  },
  { name: 'block', registers: virtioRegisters, queues: [16], setting: () => blockSetting(new MemoryBackend(disk())) },
  {
    name: 'console',
    registers: virtioRegisters,
    queues: [16, 16, 8, 8, 16, 16],
    setting: () => {
      const context = new TestContext(new FencedMemory(RAM_SIZE));
      const events: unknown[] = [];
      const host = {
        output: (port: number, bytes: Uint8Array) => events.push([port, bytes.slice(0, 100), bytes.length]),
        opened: (port: number, open: boolean) => events.push([port, open]),
      };
      return {
        context,
        make: () => new VirtioConsole(context, host),
        host: (device, amount) => {
          const port = amount & 1;
          const console = device as VirtioConsole;
          if ((amount & 6) === 0) return console.setOpen(port, (amount & 8) !== 0);
          if ((amount & 6) === 2) return console.resize(amount & 0xff, amount >> 8);
          return console.send(port, new Uint8Array(amount).fill(amount));
        },
        seen: () => events,
      };
    },
  },
  {
    name: 'entropy',
    registers: virtioRegisters,
    queues: [16],
    setting: () => {
      const context = new TestContext(new FencedMemory(RAM_SIZE));
      return { context, make: () => new VirtioEntropy(context, 99n), seen: () => undefined };
    },
  },
  {
    name: 'net',
    registers: virtioRegisters,
    queues: [16, 16],
    setting: () => {
      const context = new TestContext(new FencedMemory(RAM_SIZE));
      const frames: unknown[] = [];
      return {
        context,
        make: () => new VirtioNet(context, { send: (frame) => frames.push(frame) }),
        host: (device, amount) => {
          const net = device as VirtioNet;
          return (amount & 31) === 0
            ? net.setLink((amount & 32) !== 0)
            : net.receive(new Uint8Array(amount % 1600).fill(amount));
        },
        seen: () => frames,
      };
    },
  },
];

type Step =
  | { readonly do: 'read' | 'write'; readonly offset: number; readonly size: AccessSize; readonly value: number }
  | { readonly do: 'time'; readonly ns: number }
  | { readonly do: 'host'; readonly amount: number }
  | { readonly do: 'reset' }
  | { readonly do: 'start'; readonly without: bigint }
  | {
      readonly do: 'chain';
      readonly queue: number;
      readonly head: number | undefined;
      readonly pieces: readonly Piece[];
    }
  | { readonly do: 'kick'; readonly queue: number }
  | { readonly do: 'poke'; readonly at: number; readonly bytes: Uint8Array };

/** One descriptor of a chain and what lies in its buffer. */
interface Piece {
  readonly address: number;
  readonly length: number;
  readonly flags: number;
  readonly next: number | undefined;
  readonly content: Uint8Array;
}

const amounts = fc.oneof(fc.nat(20), fc.nat(2000), fc.nat(300_000));
const lengths = fc.oneof(fc.constantFrom(0, 1, 8, 12, 16, 32, 512, 1024, 1526), fc.nat(64), fc.nat(0xffff_ffff));
const values = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 7, 8, 0x0b, 0x0f, 0x80, 0x5555, 0x3333, 0xffff_ffff, RAM, RAM + 0x1000),
  fc.nat(255),
  fc.nat(0xffff_ffff),
);

/** Things that drivers put into buffers: disk request headers, control messages, and noise. */
const contents = fc.oneof(
  fc
    .record({ type: fc.constantFrom(0, 1, 4, 8, 11, 13, 99), sector: fc.oneof(fc.nat(40), fc.constant(0xffff_ffff)) })
    .map(({ type, sector }) => new Uint8Array(Uint32Array.of(type, 0, sector, 0).buffer)),
  fc
    .record({ port: fc.nat(2), event: fc.nat(8), value: fc.nat(1) })
    .map(({ port, event, value }) => new Uint8Array(Uint16Array.of(port, 0, event, value).buffer)),
  fc.uint8Array({ maxLength: 64 }),
);

/** Chains are mostly sound, so that programs come far; now and then each of their fields is not. */
const rarely = <T>(sound: fc.Arbitrary<T>, wild: fc.Arbitrary<T>) =>
  fc.oneof({ arbitrary: sound, weight: 30 }, { arbitrary: wild, weight: 1 });

const pieces = fc.array(
  fc.record({
    address: rarely(
      fc.nat(RAM_SIZE - BUFFERS - 2048).map((at) => RAM + BUFFERS + at),
      fc.oneof(fc.nat(0xffff_ffff), fc.nat(Number.MAX_SAFE_INTEGER)),
    ),
    length: rarely(fc.constantFrom(0, 1, 8, 12, 16, 32, 512, 1024, 1526), lengths),
    writable: fc.boolean(),
    flags: rarely(fc.constant<number | undefined>(undefined), fc.nat(15)),
    next: rarely(fc.constant<number | undefined>(undefined), fc.nat(20)),
    content: contents,
  }),
  { minLength: 1, maxLength: 5 },
);

/** A chain as an honest driver would make it: `readable` and `writable` are the lengths of its buffers. */
function sound(
  queue: number,
  readable: fc.Arbitrary<number>[],
  writable: fc.Arbitrary<number>[],
): fc.Arbitrary<{ queue: number; raw: RawPiece[] }> {
  const raw = [...readable, ...writable].map((length, index) =>
    fc.record({
      address: fc.nat(RAM_SIZE - BUFFERS - 2048).map((at) => RAM + BUFFERS + at),
      length,
      writable: fc.constant(index >= readable.length),
      flags: fc.constant(undefined),
      next: fc.constant(undefined),
      content: index < readable.length ? contents : fc.constant(new Uint8Array(0)),
    }),
  );
  return fc.tuple(...raw).map((pieces) => ({ queue, raw: pieces }));
}

type RawPiece = Omit<Piece, 'flags'> & { readonly writable: boolean; readonly flags: number | undefined };

const is = fc.constant<number>;
const honest: Record<string, fc.Arbitrary<{ queue: number; raw: RawPiece[] }>[]> = {
  block: [
    sound(0, [is(16)], [fc.constantFrom(20, 512, 1024), is(1)]),
    sound(0, [is(16), fc.constantFrom(16, 512)], [is(1)]),
    sound(0, [is(8), is(520)], [is(1)]),
    sound(0, [is(16)], [is(1)]),
  ],
  console: [
    ...[0, 4].map((queue) => sound(queue, [], [fc.integer({ min: 1, max: 900 })])),
    ...[1, 5].map((queue) => sound(queue, [fc.nat(900), fc.nat(9)], [])),
    sound(2, [], [is(64)]),
    sound(3, [is(8)], []),
  ],
  entropy: [sound(0, [], [fc.integer({ min: 1, max: 1500 })])],
  net: [
    sound(0, [], [is(12), is(1514)]),
    sound(1, [is(12), fc.nat(1600)], []),
    sound(1, [fc.integer({ min: 12, max: 99 })], []),
  ],
};

const chain = (subject: Subject): fc.Arbitrary<Step> => {
  const queues = subject.queues?.length ?? 1;
  const wild = fc.record({ queue: fc.nat(queues - 1), raw: pieces });
  const shape = rarely<{ queue: number; raw: RawPiece[] }>(fc.oneof(...(honest[subject.name] ?? [wild])), wild);
  return fc
    .record({ shape, head: rarely(fc.constant(undefined), fc.nat(0xffff)), mixed: rarely(is(0), is(1)) })
    .map(({ shape: { queue, raw }, head, mixed }) => {
      // Readable buffers before writable ones, unless this chain is to be a bad one.
      const ordered = mixed === 1 ? raw : [...raw].sort((a, b) => Number(a.writable) - Number(b.writable));
      return {
        do: 'chain',
        queue,
        head,
        pieces: ordered.map(({ address, length, writable, flags, next, content }, index) => ({
          address,
          length,
          flags: flags ?? (writable ? 2 : 0) | (index + 1 < ordered.length ? 1 : 0),
          next,
          content,
        })),
      };
    });
};

function steps(subject: Subject): fc.Arbitrary<Step[]> {
  const size = fc.constantFrom<AccessSize>(4, 4, 4, 1, 2);
  const offset = rarely(fc.constantFrom(...subject.registers), fc.nat(0x5f_ffff));
  const access = fc.record({ do: fc.constantFrom<'read' | 'write'>('read', 'write'), offset, size, value: values });
  const choices: fc.WeightedArbitrary<Step>[] = [
    { weight: subject.queues === undefined ? 40 : 4, arbitrary: access },
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant('time' as const), ns: fc.oneof(fc.nat(50_000), fc.nat(0xffff_ffff)) }),
    },
    { weight: 6, arbitrary: fc.record({ do: fc.constant('host' as const), amount: amounts }) },
    { weight: 1, arbitrary: fc.constant({ do: 'reset' as const }) },
  ];
  if (subject.queues !== undefined) {
    const queue = fc.nat(subject.queues.length - 1);
    const without = rarely(fc.constant(0n), fc.bigInt(0n, (1n << 64n) - 1n));
    const poke = fc.record({
      do: fc.constant('poke' as const),
      at: fc.oneof(
        fc.nat(63),
        fc.nat(63).map((at) => 0x1000 + at),
        fc.nat(RAM_SIZE - 64),
      ),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 32 }),
    });
    choices.push(
      { weight: 1, arbitrary: fc.record({ do: fc.constant('start' as const), without }) },
      { weight: 30, arbitrary: chain(subject) },
      { weight: 15, arbitrary: fc.record({ do: fc.constant('kick' as const), queue }) },
      { weight: 1, arbitrary: poke },
    );
  }
  const program = fc.array(fc.oneof(...choices), { minLength: 1, maxLength: 60, size: 'max' });
  if (subject.queues === undefined) return program;
  // A device that nobody has started has little to get wrong.
  return rarely(
    program.map((steps): Step[] => [{ do: 'start', without: 0n }, ...steps]),
    program,
  );
}

/** Runs a program; `transplants` says before which steps the device is replaced by a restored one. */
async function run(subject: Subject, setting: Setting, program: readonly Step[], transplants: readonly number[]) {
  const { context } = setting;
  const { memory } = context;
  let current = setting.make();
  const device: Device = {
    read: (offset, size) => current.read(offset, size),
    write: (offset, size, value) => current.write(offset, size, value),
    deadline: () => current.deadline(),
    advance: (now) => current.advance(now),
    reset: () => current.reset(),
    save: () => current.save(),
    restore: (record) => current.restore(record),
  };
  const driver = new TestDriver(device, memory, subject.queues ?? []);
  const trace: unknown[] = [];
  for (const [index, step] of program.entries()) {
    if (transplants.includes(index)) {
      const record = structuredClone(current.save());
      current = setting.make();
      current.restore(record);
    }
    switch (step.do) {
      case 'read': {
        const due = device.deadline();
        trace.push(device.read(step.offset, step.size));
        assert.equal(device.deadline(), due, 'a read that changes when the device is due');
        break;
      }
      case 'write':
        device.write(step.offset, step.size, step.size === 4 ? step.value : step.value & (2 ** (8 * step.size) - 1));
        break;
      case 'time': {
        const target = context.time + BigInt(step.ns);
        for (let events = 0; ; events++) {
          assert.ok(events < EVENTS_MAX, 'a device whose deadlines do not end');
          const due = device.deadline();
          if (due === undefined || due > target) break;
          if (due > context.time) context.time = due;
          for (let late = device.advance(context.time); late !== undefined; late = device.advance(context.time))
            await late;
        }
        context.time = target;
        break;
      }
      case 'host':
        trace.push(setting.host?.(current, step.amount));
        break;
      case 'reset':
        device.reset();
        break;
      case 'start':
        driver.start(driver.offered() & ~step.without);
        break;
      case 'kick':
        driver.kick(step.queue);
        break;
      case 'poke':
        memory.bytes.set(step.bytes, step.at);
        break;
      case 'chain': {
        const queue = driver.queues[step.queue] as TestDriver['queues'][number];
        const head = step.head ?? queue.nextDescriptor;
        for (const [place, piece] of step.pieces.entries()) {
          const at = (head + place) % queue.size;
          driver.describe(
            queue.base,
            at,
            piece.address,
            piece.length,
            piece.flags,
            piece.next ?? (at + 1) % queue.size,
          );
          if (memory.contains(piece.address, piece.content.length)) memory.write(piece.address, piece.content);
        }
        if (step.head === undefined) queue.nextDescriptor = (head + step.pieces.length) % queue.size;
        driver.offer(step.queue, head);
        break;
      }
    }
    trace.push(context.line);
  }
  return { trace, state: current.save(), memory: memory.bytes, seen: setting.seen() };
}

for (const subject of subjects) {
  const program = steps(subject);
  const transplants = fc.array(fc.nat(59), { maxLength: 4 });

  test(`${subject.name}: hostile programs are survived, and saving and restoring changes nothing`, async () => {
    await fc.assert(
      fc.asyncProperty(program, transplants, async (steps, at) => {
        const straight = await run(subject, subject.setting(), steps, []);
        const moved = await run(subject, subject.setting(), steps, at);
        assert.ok(same(moved, straight), 'a restored device went another way');
      }),
      { numRuns: RUNS },
    );
  });

  test(`${subject.name}: a damaged record is refused, or is one that works`, async () => {
    const damage = fc.record({
      path: fc.array(fc.nat(20), { minLength: 1, maxLength: 4 }),
      value: fc.anything({ withBigInt: true }),
    });
    const numbers = fc.record({
      path: fc.array(fc.nat(20), { minLength: 1, maxLength: 4 }),
      value: fc.oneof(values, fc.bigInt()),
    });
    await fc.assert(
      fc.asyncProperty(
        program,
        program,
        fc.array(fc.oneof(damage, numbers), { maxLength: 3 }),
        async (before, after, damages) => {
          const setting = subject.setting();
          const { state } = await run(subject, setting, before, []);
          const record = structuredClone(state) as Record<string, unknown>;
          for (const { path, value } of damages) spoil(record, path, value);
          const make = setting.make.bind(setting);
          const fresh = make();
          try {
            fresh.restore(record);
          } catch (error) {
            assert.ok(error instanceof StateError, `${error}`);
            return;
          }
          await run(subject, { ...setting, make: () => fresh }, after, []);
        },
      ),
      { numRuns: RUNS },
    );
  });
}

test('block: a host that answers late changes nothing', async () => {
  const subject = subjects.find(({ name }) => name === 'block') as Subject;
  await fc.assert(
    fc.asyncProperty(steps(subject), async (program) => {
      const prompt = await run(subject, blockSetting(new MemoryBackend(disk())), program, []);
      const late = await run(subject, blockSetting(new LateBackend(disk())), program, []);
      assert.ok(same(late, prompt), 'the host showed through');
    }),
    { numRuns: RUNS },
  );
});

/** Puts `value` at a place of a record that `path` chooses, wherever it leads. */
function spoil(record: Record<string, unknown>, path: readonly number[], value: unknown): void {
  let holder = record;
  for (const [depth, choice] of path.entries()) {
    const names = Object.keys(holder);
    const name = names[choice % Math.max(1, names.length)];
    if (name === undefined) return;
    const inner = holder[name];
    const last =
      depth === path.length - 1 || typeof inner !== 'object' || inner === null || inner instanceof Uint8Array;
    if (last) {
      holder[name] = value;
      return;
    }
    holder = inner as Record<string, unknown>;
  }
}
