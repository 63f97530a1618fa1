import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chacha20Block } from '../chacha20.ts';
import { assertStrict, read32, TestContext, TestDriver, TestMemory, transplant } from '../testing.ts';
import { VirtioEntropy } from './device.ts';

function setUp(seed = 42n) {
  const context = new TestContext(new TestMemory(0x80000));
  const device = new VirtioEntropy(context, seed);
  const driver = new TestDriver(device, context.memory, [64]);
  driver.start();
  const draw = (length: number) => {
    const { addresses } = driver.add(0, [length]);
    driver.kick(0);
    const written = driver.used(0)[0]?.length ?? 0;
    return driver.bytes(addresses[0] as number, written);
  };
  return { context, device, driver, draw };
}

const hex = (bytes: Uint8Array) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');

test('chacha20: the blocks of an all-zero key and nonce in RFC 8439, appendix A.1', () => {
  const block = hex(chacha20Block(new Uint8Array(32), 0n));
  assert.equal(block.slice(0, 64), '76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7');
  const next = hex(chacha20Block(new Uint8Array(32), 1n));
  assert.equal(next.slice(0, 64), '9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed');
});

test('entropy: one seed gives one stream, however it is drawn', () => {
  assert.equal(read32(setUp().device, 0x08), 4);
  const whole = setUp().draw(1000);
  assert.equal(whole.length, 1000);
  const pieces = setUp();
  const drawn = [1, 62, 3, 64, 128, 742].flatMap((length) => [...pieces.draw(length)]);
  assert.deepEqual(drawn, [...whole]);
  assert.notDeepEqual(setUp(43n).draw(1000), whole);
  assert.notDeepEqual(setUp(42n + (1n << 200n)).draw(1000), whole);
});

test('entropy: no reset repeats the stream; a new seed starts another', () => {
  const { device, driver, draw } = setUp();
  const first = draw(64);
  driver.start();
  assert.notDeepEqual(draw(64), first);
  device.reset();
  driver.start();
  assert.notDeepEqual(draw(64), first);
  device.reseed(42n);
  assert.deepEqual(draw(64), first);
});

test('entropy: a chain gets at most 64 KiB, one that cannot be written breaks the device', () => {
  const { draw, driver } = setUp();
  assert.equal(draw(100_000).length, 65_536);
  driver.add(0, [Uint8Array.of(1)]);
  driver.kick(0);
  assert.equal(driver.status, 0x4f);
});

test('entropy: save and restore continue alike; damaged records are refused', () => {
  const one = setUp();
  one.draw(100);
  const other = setUp(7n);
  other.context.memory.bytes.set(one.context.memory.bytes);
  transplant(one.device, other.device);
  Object.assign(other.driver.queues, structuredClone(one.driver.queues));
  assert.deepEqual(other.draw(100), one.draw(100));
  assertStrict(one.device);
});

test('entropy: what is more than a device does at a time comes later, and is part of the record meanwhile', () => {
  const { device, context, driver } = setUp();
  const asked = 4;
  for (let n = 0; n < asked; n++) driver.add(0, [65_536]);
  driver.kick(0);
  let given = driver.used(0).length;
  assert.equal(given, 1);
  while (given < asked) {
    const due = device.deadline();
    assert.ok(due !== undefined && due > context.time);
    const record = device.save();
    const { transport } = record;
    for (const owed of [{ due, queues: 0 }, { due, queues: 2 }, { due: -1n, queues: 1 }, { due }, null]) {
      const damaged = { ...record, transport: { ...transport, owed } };
      assert.throws(() => device.restore(damaged), { name: 'StateError' });
    }
    const again = new VirtioEntropy(context, 1n);
    transplant(device, again);
    assert.equal(again.deadline(), due);
    // Asking again, or coming before it is due, changes nothing.
    driver.kick(0);
    device.advance(due - 1n);
    assert.equal(driver.used(0).length, 0);
    assert.equal(device.deadline(), due);
    context.time = due;
    device.advance(due);
    given += driver.used(0).length;
  }
  assert.equal(device.deadline(), undefined);
  for (let n = 0; n < 2; n++) driver.add(0, [65_536]);
  driver.kick(0);
  driver.start();
  assert.equal(device.deadline(), undefined, 'a reset forgets what was put off');
});
