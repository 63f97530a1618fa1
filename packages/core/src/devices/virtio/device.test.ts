import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StateError } from '../../state/errors.ts';
import { assertStrict, read32, TestContext, TestDriver, TestMemory, transplant, write32 } from '../testing.ts';
import { VirtioDevice } from './device.ts';
import { type Chain, gather, lengthOf, scatter, slice } from './queue.ts';
import type { TransportState } from './state.ts';

const FEATURE = 1n << 3n;
const INDIRECT = 1n << 28n;
const EVENT_IDX = 1n << 29n;
const VERSION_1 = 1n << 32n;
const NEEDS_RESET = 0x40;

/** Gives back what it reads, reversed; holds chains of queue 1 until told. */
class Echo extends VirtioDevice<{ transport: TransportState }> {
  held: Chain[] = [];
  cancelled = 0;
  value = Uint8Array.of(1, 2, 3, 4, 5);

  constructor(context: TestContext) {
    super(context, { name: 'echo', deviceId: 77, features: FEATURE, queueSizes: [16, 8] });
  }

  protected override config() {
    return this.value;
  }

  protected override serve(queue: number) {
    for (let chain = this.take(queue); chain !== undefined; chain = this.take(queue)) {
      if (queue === 1) this.held.push(chain);
      else this.answer(queue, chain);
    }
  }

  answer(queue: number, chain: Chain) {
    const bytes = gather(this.context.memory, chain.readable).reverse();
    this.give(queue, chain.head, scatter(this.context.memory, chain.writable, bytes));
  }

  release() {
    this.serving(() => {
      for (const chain of this.held.splice(0)) this.answer(1, chain);
    });
  }

  change() {
    this.value = Uint8Array.of(9);
    this.configChanged();
  }

  protected override cancel() {
    this.cancelled += this.held.length;
    this.held = [];
  }

  save() {
    return { transport: this.saveTransport() };
  }

  restore(record: unknown) {
    const { transport } = (record ?? {}) as { transport: unknown };
    this.restoreTransport(this.checkTransport(transport));
  }
}

function setUp() {
  const context = new TestContext(new TestMemory(0x40000));
  const device = new Echo(context);
  const driver = new TestDriver(device, context.memory, [16, 8]);
  return { context, device, driver };
}

const text = (string: string) => new TextEncoder().encode(string);

test('virtio: identity, configuration space, registers of features that are absent', () => {
  const { device } = setUp();
  assert.equal(read32(device, 0x00), 0x74726976);
  assert.equal(read32(device, 0x04), 2);
  assert.equal(read32(device, 0x08), 77);
  assert.equal(read32(device, 0xb0), 0xffff_ffff);
  assert.equal(read32(device, 0xbc), 0xffff_ffff);
  assert.equal(device.read(0x100, 1), 1);
  assert.equal(device.read(0x102, 2), 0x0403);
  assert.equal(device.read(0x102, 4), 0x0005_0403);
  assert.equal(device.read(0x200, 4), 0);
  assert.equal(device.read(0x00, 1), 0);
  write32(device, 0x30, 1);
  assert.equal(read32(device, 0x34), 8);
  write32(device, 0x30, 2);
  assert.equal(read32(device, 0x34), 0);
});

test('virtio: feature negotiation', () => {
  const { device, driver } = setUp();
  assert.equal(
    driver.offered() & (FEATURE | INDIRECT | EVENT_IDX | VERSION_1),
    FEATURE | INDIRECT | EVENT_IDX | VERSION_1,
  );
  write32(device, 0x14, 2);
  assert.equal(read32(device, 0x10), 0);
  driver.start(FEATURE | VERSION_1 | (1n << 5n), 0x0b);
  assert.equal(driver.status, 0x03);
  write32(device, 0x70, 0x0f);
  assert.equal(driver.status, 0x03);
  driver.start(FEATURE | VERSION_1);
  assert.equal(driver.status, 0x0f);
  // Bits stay until a reset.
  write32(device, 0x70, 0x01);
  assert.equal(driver.status, 0x0f);
  write32(device, 0x70, 0);
  assert.equal(driver.status, 0);
});

test('virtio: a chain goes there and back, with an interrupt that is acknowledged', () => {
  const { context, driver } = setUp();
  driver.start();
  const { head, addresses } = driver.add(0, [text('hel'), text('lo'), 2, 10]);
  driver.kick(0);
  assert.deepEqual(driver.used(0), [{ head, length: 5 }]);
  assert.deepEqual(driver.bytes(addresses[2] as number, 2), text('ol'));
  assert.deepEqual(driver.bytes(addresses[3] as number, 3), text('leh'));
  assert.equal(context.line, true);
  assert.equal(driver.acknowledge(), 1);
  assert.equal(context.line, false);
});

test('virtio: an indirect table; one chain per available entry, many times around the ring', () => {
  const { driver } = setUp();
  driver.start();
  for (let i = 0; i < 100; i++) {
    const { head, addresses } = driver.add(0, [text(`n${i % 10}`), 2], true);
    driver.kick(0);
    assert.deepEqual(driver.used(0), [{ head, length: 2 }]);
    assert.deepEqual(driver.bytes(addresses[1] as number, 2), text(`${i % 10}n`));
  }
});

test('virtio: buffers made available before DRIVER_OK are served at DRIVER_OK, not before', () => {
  const { device, driver } = setUp();
  driver.start(driver.offered(), 0x0b);
  driver.add(0, [text('a'), 1]);
  driver.kick(0);
  assert.deepEqual(driver.used(0), []);
  write32(device, 0x70, 0x0f);
  assert.equal(driver.used(0).length, 1);
});

test('virtio: interrupts follow flags without event index', () => {
  const { context, driver } = setUp();
  driver.start(VERSION_1);
  driver.ring(0).flags = 1;
  driver.add(0, [text('a')]);
  driver.kick(0);
  assert.equal(driver.used(0).length, 1);
  assert.equal(context.line, false);
  driver.ring(0).flags = 0;
  driver.add(0, [text('a')]);
  driver.kick(0);
  assert.equal(context.line, true);
});

test('virtio: interrupts follow used_event, and the device asks for the next notification by avail_event', () => {
  const { context, driver } = setUp();
  driver.start(VERSION_1 | EVENT_IDX);
  driver.ring(0).flags = 1;
  driver.ring(0).usedEvent = 2;
  for (const [count, line] of [
    [1, false],
    [2, false],
    [3, true],
    [4, false],
  ] as const) {
    driver.add(0, [text('a')]);
    driver.kick(0);
    assert.equal(context.line, line, `after ${count}`);
    assert.equal(driver.ring(0).availEvent, count);
    driver.acknowledge();
  }
  driver.ring(0).usedEvent = 6;
  for (let i = 0; i < 5; i++) driver.add(0, [text('a')]);
  driver.kick(0);
  assert.equal(context.line, true);
});

test('virtio: reset and queue reset forget chains under way, and nothing is written for them', () => {
  const { device, driver } = setUp();
  driver.start();
  const { addresses } = driver.add(1, [text('a'), 1]);
  driver.kick(1);
  assert.equal(device.held.length, 1);
  write32(device, 0x70, 0);
  assert.equal(device.cancelled, 1);
  device.release();
  assert.deepEqual(driver.bytes(addresses[1] as number, 1), Uint8Array.of(0));
  driver.start();
  driver.add(1, [text('a'), 1]);
  driver.kick(1);
  write32(device, 0x30, 1);
  write32(device, 0xc0, 1);
  assert.equal(read32(device, 0xc0), 0);
  assert.equal(read32(device, 0x44), 0);
  assert.equal(device.cancelled, 2);
  driver.setUp(1);
  driver.add(1, [text('b'), 1]);
  driver.kick(1);
  device.release();
  assert.equal(driver.used(1).length, 1);
});

test('virtio: a change of configuration', () => {
  const { context, device, driver } = setUp();
  device.change();
  assert.equal(context.line, false);
  assert.equal(read32(device, 0xfc), 1);
  driver.start();
  device.change();
  assert.equal(driver.acknowledge(), 2);
  assert.equal(read32(device, 0xfc), 2);
});

const OUTSIDE = 0x1000;

/** What a driver must not do; each runs on a started device and is followed by a kick of queue 0. */
const breaches: Record<string, (driver: TestDriver, base: number) => void> = {
  'a loop': (driver, base) => {
    driver.describe(base, 0, base, 4, 1, 1);
    driver.describe(base, 1, base, 4, 1, 0);
    driver.offer(0, 0);
  },
  'a head beyond the table': (driver) => driver.offer(0, 16),
  'a next beyond the table': (driver, base) => {
    driver.describe(base, 0, base, 4, 1, 16);
    driver.offer(0, 0);
  },
  'a buffer outside RAM': (driver, base) => {
    driver.describe(base, 0, OUTSIDE, 4, 0);
    driver.offer(0, 0);
  },
  'a buffer that ends outside RAM': (driver, base) => {
    driver.describe(base, 0, base, 0x40001, 0);
    driver.offer(0, 0);
  },
  'a buffer at the end of the address space': (driver, base) => {
    driver.describe(base, 0, 0, 16, 0);
    driver.memory.view.setBigUint64(0, 0xffff_ffff_ffff_fff8n, true);
    driver.offer(0, 0);
  },
  'a readable buffer after a writable one': (driver, base) => {
    driver.describe(base, 0, base, 4, 3, 1);
    driver.describe(base, 1, base, 4, 0);
    driver.offer(0, 0);
  },
  'a nested indirect table': (driver, base) => {
    const table = driver.place(16);
    driver.describe(table, 0, table, 16, 4);
    driver.describe(base, 0, table, 16, 4);
    driver.offer(0, 0);
  },
  'an indirect table of no bytes': (driver, base) => {
    driver.describe(base, 0, driver.place(16), 0, 4);
    driver.offer(0, 0);
  },
  'an indirect table of half a descriptor': (driver, base) => {
    driver.describe(base, 0, driver.place(32), 24, 4);
    driver.offer(0, 0);
  },
  'an indirect table outside RAM': (driver, base) => {
    driver.describe(base, 0, OUTSIDE, 16, 4);
    driver.offer(0, 0);
  },
  'an indirect descriptor with a next': (driver, base) => {
    driver.describe(base, 0, driver.place(16), 16, 5, 1);
    driver.offer(0, 0);
  },
  'an indirect table without an end': (driver, base) => {
    const table = driver.place(16 * 64);
    for (let i = 0; i < 64; i++) driver.describe(table, i, base, 1, 1, (i + 1) % 64);
    driver.describe(base, 0, table, 16 * 64, 4);
    driver.offer(0, 0);
  },
  'more chains than the ring has entries': (driver) => {
    driver.ring(0).availableIndex = 17;
  },
  'an available index that goes back': (driver) => {
    driver.ring(0).availableIndex = 0xffff;
  },
};

for (const [name, breach] of Object.entries(breaches)) {
  test(`virtio: needs a reset after ${name}`, () => {
    const { context, device, driver } = setUp();
    driver.start();
    driver.add(1, [text('held'), 4]);
    driver.kick(1);
    breach(driver, context.memory.base);
    const before = context.memory.bytes.slice();
    driver.kick(0);
    assert.equal(driver.status, 0x0f | NEEDS_RESET);
    assert.equal(driver.acknowledge(), 2);
    device.release();
    driver.kick(0);
    driver.kick(1);
    device.change();
    assert.deepEqual(context.memory.bytes, before);
    driver.start();
    driver.add(0, [text('a'), 1]);
    driver.kick(0);
    assert.equal(driver.used(0).length, 1);
  });
}

test('virtio: an indirect descriptor needs the feature', () => {
  const { driver } = setUp();
  driver.start(VERSION_1);
  driver.add(0, [text('a')], true);
  driver.kick(0);
  assert.equal(driver.status, 0x0f | NEEDS_RESET);
});

test('virtio: a held chain counts: no more chains than entries are ever under way', () => {
  const { device, driver } = setUp();
  driver.start();
  for (let i = 0; i < 8; i++) driver.add(1, [text('a')]);
  driver.kick(1);
  assert.equal(device.held.length, 8);
  driver.add(1, [text('a')]);
  driver.kick(1);
  assert.equal(driver.status, 0x0f | NEEDS_RESET);
});

test('virtio: queues that cannot work are refused when they are made ready', () => {
  const attempts: [number, number][] = [
    [0x38, 0],
    [0x38, 3],
    [0x38, 32],
    [0x80, 0x8000_0008],
    [0x84, 1],
    [0x90, 0x8000_1001],
    [0xa0, 0x8000_2002],
    [0xa0, 0x1000],
    [0x94, 0xffff_ffff],
  ];
  for (const [register, value] of attempts) {
    const { device, driver } = setUp();
    driver.start(driver.offered(), 0x0b);
    write32(device, 0x30, 0);
    write32(device, 0x44, 0);
    const addresses = [0x8000_0000, 0x8000_1000, 0x8000_2000];
    write32(device, 0x38, 16);
    for (const [index, address] of addresses.entries()) write32(device, 0x80 + 16 * index, address);
    write32(device, register, value);
    write32(device, 0x44, 1);
    assert.equal(read32(device, 0x44), 0);
    assert.equal(driver.status & NEEDS_RESET, NEEDS_RESET, `register ${register} = ${value}`);
  }
});

test('virtio: a ready queue keeps its size and addresses', () => {
  const { device, driver } = setUp();
  driver.start();
  const before = device.save();
  write32(device, 0x30, 0);
  for (const register of [0x38, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4]) write32(device, register, 4);
  assert.deepEqual({ ...device.save().transport, queueSelect: 1 }, before.transport);
});

test('virtio: save and restore continue alike', () => {
  const { device, driver, context } = setUp();
  driver.start();
  driver.add(0, [text('ab'), 2]);
  driver.kick(0);
  const other = new TestContext(context.memory);
  const copy = new Echo(other);
  transplant(device, copy);
  assert.equal(other.line, true);
  const continued = new TestDriver(copy, context.memory, [16, 8]);
  Object.assign(continued.queues, driver.queues);
  continued.add(0, [text('cd'), 2]);
  continued.kick(0);
  assert.equal(driver.used(0).length, 2);
});

test('virtio: damaged records of the transport are refused', () => {
  const { device, driver } = setUp();
  driver.start();
  const { transport } = device.save();
  const refuses = (change: object, where: RegExp) => {
    assert.throws(
      () => device.restore({ transport: { ...transport, ...change } }),
      (error: StateError) => {
        assert.match(error.message, where);
        return error.code === 'ERR_BRAID_STATE';
      },
    );
  };
  const [queue] = transport.queues;
  refuses({ status: 0x10 }, /echo\.transport\.status/);
  refuses({ status: 0x07 }, /echo\.transport\.status/);
  refuses({ driverFeatures: 1n << 60n }, /driverFeatures/);
  refuses({ queues: [queue] }, /queues/);
  refuses({ queues: [{ ...queue, size: 32 }, queue] }, /queues\[0\]: a queue of 32/);
  refuses({ queues: [queue, { ...queue, size: 8, descriptors: 1n << 50n }] }, /queues\[1\]: a descriptor table/);
  refuses({ queues: [{ ...queue, outstanding: 1 }, transport.queues[1]] }, /queues\[0\]\.outstanding/);
  assertStrict({
    ...unbound(device),
    save: () => device.save().transport,
    restore: (record) => device.restore({ transport: record }),
  });
});

/** The rest of a device, for a wrapper that saves only a part. */
function unbound(device: Echo) {
  return {
    read: () => 0,
    write: () => {},
    deadline: () => undefined,
    advance: () => undefined,
    reset: () => device.reset(),
  };
}

test('virtio: pieces of buffers', () => {
  const segments = [
    { address: 100, length: 4 },
    { address: 200, length: 6 },
  ];
  assert.deepEqual(slice(segments, 0, 10), segments);
  assert.deepEqual(slice(segments, 3, 3), [
    { address: 103, length: 1 },
    { address: 200, length: 2 },
  ]);
  assert.deepEqual(slice(segments, 4, 1), [{ address: 200, length: 1 }]);
  assert.deepEqual(slice(segments, 10, 5), []);
  assert.equal(lengthOf(segments), 10);
});
