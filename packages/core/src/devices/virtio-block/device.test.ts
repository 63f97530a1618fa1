import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertStrict, read32, TestContext, TestDriver, TestMemory, transplant, write32 } from '../testing.ts';
import { type BlockBackend, MemoryBackend } from './backend.ts';
import { VirtioBlock } from './device.ts';

const SECTORS = 64;
const IN = 0;
const OUT = 1;
const FLUSH = 4;
const GET_ID = 8;
const DISCARD = 11;
const WRITE_ZEROES = 13;
const OK = 0;
const IO_ERROR = 1;
const UNSUPPORTED = 2;
const VERSION_1 = 1n << 32n;

function image(): Uint8Array {
  return Uint8Array.from({ length: 512 * SECTORS }, (_, index) => (index * 7 + (index >> 9)) & 0xff);
}

function header(type: number, sector: bigint): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint32(0, type, true);
  view.setBigUint64(8, sector, true);
  return new Uint8Array(view.buffer);
}

function range(sector: bigint, sectors: number, flags = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, sector, true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return new Uint8Array(view.buffer);
}

function setUp(backend: BlockBackend = new MemoryBackend(image())) {
  const context = new TestContext(new TestMemory(0x100000));
  const device = new VirtioBlock(context, backend, { serial: 'disk-1' });
  const driver = new TestDriver(device, context.memory, [128]);
  driver.start();
  const submit = (type: number, sector: bigint, ...buffers: (Uint8Array | number)[]) => {
    const { addresses } = driver.add(0, [header(type, sector), ...buffers, 1]);
    driver.kick(0);
    const status = addresses.at(-1) as number;
    context.memory.write(status, Uint8Array.of(0xee));
    return { data: addresses[1] as number, statusAddress: status, status: () => driver.bytes(status, 1)[0] };
  };
  /** Lets guest time pass until nothing is under way. */
  const finish = () => {
    for (let due = device.deadline(); due !== undefined; due = device.deadline()) {
      context.time = due;
      assert.equal(device.advance(due), undefined);
    }
  };
  return { context, device, driver, submit, finish };
}

test('block: configuration', () => {
  const { device } = setUp();
  assert.equal(read32(device, 0x08), 2);
  assert.equal(read32(device, 0x100), SECTORS);
  assert.equal(read32(device, 0x104), 0);
  assert.equal(read32(device, 0x114), 512);
  const driver = new TestDriver(device, new TestMemory(0x10000), []);
  assert.equal(driver.offered() & 0xffff_ffffn & ~(3n << 28n), 0x6646n);
  const readOnly = setUp(new MemoryBackend(image(), true));
  assert.equal(readOnly.driver.offered() & 0x6020n, 0x20n);
});

test('block: a read lands in memory exactly at its time', () => {
  const { context, device, driver, submit } = setUp();
  context.time = 1000n;
  const { data, status } = submit(IN, 2n, 1024);
  assert.equal(device.deadline(), 1000n + 512n + 20_000n);
  context.time = 21_511n;
  device.advance(context.time);
  assert.equal(status(), 0xee);
  assert.equal(
    driver.bytes(data, 1024).every((byte) => byte === 0),
    true,
  );
  context.time = 21_512n;
  device.advance(context.time);
  assert.equal(status(), OK);
  assert.deepEqual(driver.bytes(data, 1024), image().slice(1024, 2048));
  assert.deepEqual(driver.used(0), [{ head: 0, length: 1025 }]);
  assert.equal(context.line, true);
  assert.equal(device.deadline(), undefined);
});

test('block: write, read back, flush, id; buffers cut anyhow', () => {
  const backend = new MemoryBackend(image());
  const { context, driver, submit, finish } = setUp(backend);
  const bytes = new Uint8Array(1024).fill(0x5a);
  const write = submit(OUT, 5n, bytes.subarray(0, 100), bytes.subarray(100));
  assert.equal(backend.bytes[5 * 512], image()[5 * 512]);
  finish();
  assert.equal(write.status(), OK);
  assert.deepEqual(backend.bytes.slice(5 * 512, 7 * 512), bytes);
  const read = submit(IN, 5n, 1, 500, 523);
  const flush = submit(FLUSH, 0n);
  const id = submit(GET_ID, 0n, 20);
  finish();
  assert.deepEqual([read.status(), flush.status(), id.status()], [OK, OK, OK]);
  assert.equal(driver.bytes(read.data, 1)[0], 0x5a);
  assert.equal(new TextDecoder().decode(driver.bytes(id.data, 20)), 'disk-1'.padEnd(20, '\0'));
  // The header in pieces, the status together with the data.
  const { addresses } = driver.add(0, [header(IN, 1n).subarray(0, 3), header(IN, 1n).subarray(3), 513]);
  driver.kick(0);
  finish();
  const expected = Uint8Array.of(...image().slice(512, 1024), OK);
  assert.deepEqual(driver.bytes(addresses[2] as number, 513), expected);
  assert.equal(context.line, true);
});

test('block: requests are answered in order, and the disk moves one at a time', () => {
  const { device, driver, submit } = setUp();
  submit(IN, 0n, 2048);
  submit(IN, 0n, 512);
  assert.equal(device.underWay, 2);
  const times = device.save().requests.map(({ due }) => due);
  assert.deepEqual(times, [21_024n, 21_280n]);
  device.advance(30_000n);
  assert.deepEqual(
    driver.used(0).map(({ length }) => length),
    [2049, 513],
  );
});

test('block: discard and write zeroes', () => {
  const backend = new MemoryBackend(image());
  const calls: string[] = [];
  const spy: BlockBackend = {
    size: backend.size,
    readOnly: false,
    read: (offset, into) => backend.read(offset, into),
    write: (offset, bytes) => {
      calls.push(`write ${offset} ${bytes.length}`);
      backend.write(offset, bytes);
    },
    flush: () => {},
    discard: (offset, length) => {
      calls.push(`discard ${offset} ${length}`);
      backend.zero(offset, length);
    },
  };
  const { submit, finish } = setUp(spy);
  const statuses = [
    submit(DISCARD, 0n, range(1n, 2)),
    submit(WRITE_ZEROES, 0n, range(4n, 1)),
    submit(WRITE_ZEROES, 0n, range(6n, 1, 1)),
    submit(DISCARD, 0n, range(1n, 2, 1)),
    submit(WRITE_ZEROES, 0n, range(1n, 2, 2)),
    submit(DISCARD, 0n, range(63n, 2)),
    submit(DISCARD, 0n, range(0xffff_ffff_ffff_ffffn, 2)),
    submit(DISCARD, 0n, new Uint8Array(15)),
    submit(WRITE_ZEROES, 0n, range(0n, 0xffff_ffff)),
  ];
  finish();
  assert.deepEqual(
    statuses.map(({ status }) => status()),
    [OK, OK, OK, UNSUPPORTED, UNSUPPORTED, IO_ERROR, IO_ERROR, UNSUPPORTED, IO_ERROR],
  );
  assert.deepEqual(calls, ['discard 512 1024', 'write 2048 512', 'discard 3072 512']);
  assert.equal(
    backend.bytes.slice(512, 1536).every((byte) => byte === 0),
    true,
  );
});

test('block: errors: beyond the end, half sectors, read-only, unknown types, a failing backend', () => {
  const failing: BlockBackend = {
    ...new MemoryBackend(image()),
    size: 512n * 64n,
    readOnly: false,
    read: () => {
      throw new Error('bad sector');
    },
    write: () => {},
    flush: () => {
      throw new Error('no');
    },
  };
  const some = setUp();
  const readOnly = setUp(new MemoryBackend(image(), true));
  const broken = setUp(failing);
  const cases: [ReturnType<typeof setUp>, number, bigint, Uint8Array | number, number][] = [
    [some, IN, 64n, 512, IO_ERROR],
    [some, IN, 0xffff_ffff_ffff_ffffn, 512, IO_ERROR],
    [some, IN, 63n, 1024, IO_ERROR],
    [some, IN, 0n, 100, IO_ERROR],
    [some, OUT, 63n, new Uint8Array(1024), IO_ERROR],
    [some, 99, 0n, 512, UNSUPPORTED],
    [readOnly, OUT, 0n, new Uint8Array(512), IO_ERROR],
    [readOnly, DISCARD, 0n, range(0n, 1), IO_ERROR],
    [readOnly, IN, 63n, 512, OK],
    [broken, IN, 0n, 512, IO_ERROR],
    [broken, OUT, 0n, new Uint8Array(512), OK],
    [broken, FLUSH, 0n, new Uint8Array(0), IO_ERROR],
  ];
  for (const [{ submit, finish, driver }, type, sector, buffer, expected] of cases) {
    const { status } = submit(type, sector, buffer);
    finish();
    assert.equal(status(), expected, `type ${type} sector ${sector}`);
    assert.equal(driver.used(0).length, 1);
  }
});

test('block: without the flush feature each write is durable', () => {
  let flushes = 0;
  const backend = Object.assign(new MemoryBackend(image()), { flush: () => void (flushes += 1) });
  const { driver, submit, finish } = setUp(backend);
  driver.start(VERSION_1);
  submit(OUT, 0n, new Uint8Array(512));
  finish();
  assert.equal(flushes, 1);
});

test('block: huge requests are refused without being gathered', () => {
  const { driver, context, finish, device } = setUp();
  const table = driver.place(16 * 80);
  const base = context.memory.base;
  driver.describe(table, 0, driver.place(header(IN, 0n)), 16, 1, 1);
  for (let i = 1; i < 79; i++) driver.describe(table, i, base, 0x100000, 3, i + 1);
  const status = driver.place(1);
  driver.describe(table, 79, status, 1, 2);
  driver.describe(base, 0, table, 16 * 80, 4);
  driver.offer(0, 0);
  driver.kick(0);
  assert.equal(device.deadline(), 16_777_216n + 20_000n);
  finish();
  assert.equal(driver.bytes(status, 1)[0], IO_ERROR);
});

test('block: requests without header or status break the device', () => {
  for (const buffers of [[new Uint8Array(15), 1], [header(IN, 0n)], [1]]) {
    const { driver } = setUp();
    driver.add(0, buffers);
    driver.kick(0);
    assert.equal(driver.status & 0x40, 0x40);
  }
});

/** A backend whose answers wait for the test. */
function lateBackend() {
  const memory = new MemoryBackend(image());
  const answers: { resolve: () => void; reject: (error: Error) => void }[] = [];
  const later = (work: () => void) =>
    new Promise<void>((resolve, reject) => {
      answers.push({ resolve: () => resolve(work()), reject });
    });
  const backend: BlockBackend = {
    size: memory.size,
    readOnly: false,
    read: (offset, into) => later(() => memory.read(offset, into)),
    write: (offset, bytes) => later(() => memory.write(offset, bytes)),
    flush: () => later(() => {}),
  };
  return { backend, answers, memory };
}

test('block: a late host makes the machine stand still, unseen', async () => {
  const { backend, answers } = lateBackend();
  const { context, device, driver, submit } = setUp(backend);
  const first = submit(IN, 3n, 512);
  const second = submit(FLUSH, 0n);
  context.time = 50_000n;
  const stall = device.advance(context.time);
  assert.ok(stall instanceof Promise);
  assert.equal(device.advance(context.time), stall);
  assert.equal(first.status(), 0xee);
  answers[0]?.resolve();
  await stall;
  assert.equal(first.status(), 0xee);
  const next = device.advance(context.time);
  assert.equal(first.status(), OK);
  assert.deepEqual(driver.bytes(first.data, 512), image().slice(1536, 2048));
  assert.ok(next instanceof Promise);
  answers[1]?.reject(new Error('disk on fire'));
  await next;
  assert.equal(device.advance(context.time), undefined);
  assert.equal(second.status(), IO_ERROR);
});

test('block: a reset forgets requests, also one that the host is working on', async () => {
  const { backend, answers } = lateBackend();
  const { context, device, driver, submit } = setUp(backend);
  const { data, status } = submit(IN, 3n, 512);
  context.time = 50_000n;
  const stall = device.advance(context.time);
  write32(device, 0x70, 0);
  assert.equal(device.deadline(), undefined);
  answers[0]?.resolve();
  await stall;
  assert.equal(device.advance(context.time), undefined);
  assert.equal(status(), 0xee);
  assert.equal(
    driver.bytes(data, 512).every((byte) => byte === 0),
    true,
  );
});

test('block: save with requests under way, also during a stall, and continue elsewhere', async () => {
  const { backend } = lateBackend();
  const one = setUp(backend);
  const { data, statusAddress } = one.submit(IN, 3n, 512);
  one.context.time = 20_256n;
  one.device.advance(one.context.time);
  const other = setUp();
  other.context.memory.bytes.set(one.context.memory.bytes);
  other.context.time = one.context.time;
  transplant(one.device, other.device);
  assert.equal(other.device.deadline(), 20_256n);
  assert.equal(other.device.advance(other.context.time), undefined);
  assert.deepEqual(other.driver.bytes(data, 512), image().slice(1536, 2048));
  assert.equal(other.driver.bytes(statusAddress, 1)[0], OK);
});

test('block: damaged records are refused', () => {
  const { device, submit } = setUp();
  submit(OUT, 1n, new Uint8Array(512));
  submit(IN, 1n, 512);
  assertStrict(device);
  const state = device.save();
  const [first, second] = state.requests;
  assert.throws(() => device.restore({ ...state, requests: [second, first] }), /requests\[1\]\.due/);
  assert.throws(() => device.restore({ ...state, requests: [first] }), /outstanding/);
  assert.throws(() => device.restore({ ...state, requests: [first, { ...second, statusAddress: 5 }] }), /outside RAM/);
  const data = [{ address: 0x8000_0000, length: 0x200000 }];
  assert.throws(() => device.restore({ ...state, requests: [first, { ...second, data }] }), /outside RAM/);
  assert.throws(() => device.restore({ ...state, transport: { ...state.transport, status: 0x4f } }), /does not run/);
});
