import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertStrict, read32, TestContext, TestDriver, TestMemory, transplant } from '../testing.ts';
import { noneBackend } from './backend.ts';
import { VirtioNet } from './device.ts';
import { INBOX_FRAMES } from './state.ts';

function setUp() {
  const context = new TestContext(new TestMemory(0x100000));
  const sent: Uint8Array[] = [];
  const device = new VirtioNet(context, { send: (frame) => sent.push(frame) }, { mac: '52:54:00:AB:cd:ef' });
  const driver = new TestDriver(device, context.memory, [64, 64]);
  driver.start();
  const transmit = (packet: Uint8Array) => {
    driver.add(1, [packet.subarray(0, 12), packet.subarray(12)]);
    driver.kick(1);
  };
  return { context, device, driver, sent, transmit };
}

function frame(length: number, fill = 1): Uint8Array {
  return new Uint8Array(length).fill(fill);
}

test('net: configuration', () => {
  const { device } = setUp();
  assert.equal(read32(device, 0x08), 1);
  const mac = [0, 1, 2, 3, 4, 5].map((index) => device.read(0x100 + index, 1));
  assert.deepEqual(mac, [0x52, 0x54, 0x00, 0xab, 0xcd, 0xef]);
  assert.equal(device.read(0x106, 2), 1);
  for (const bad of ['', '52:54:00:12:34', '52-54-00-12-34-56', '01:00:00:00:00:00']) {
    assert.throws(() => new VirtioNet(new TestContext(), noneBackend, { mac: bad }), RangeError);
  }
});

test('net: the guest sends frames without their headers; impossible sizes are lost', () => {
  const { driver, sent, transmit } = setUp();
  for (const length of [13, 14, 60, 1518, 1519]) transmit(new Uint8Array([...new Uint8Array(12), ...frame(length)]));
  assert.deepEqual(
    sent.map(({ length }) => length),
    [14, 60, 1518],
  );
  assert.equal(driver.used(1).length, 5);
  driver.add(1, [new Uint8Array(11)]);
  driver.kick(1);
  assert.equal(driver.status, 0x4f);
});

test('net: frames arrive with a header, in order, and wait for buffers', () => {
  const { device, driver, context } = setUp();
  assert.equal(device.receive(frame(60, 1)), true);
  assert.equal(device.receive(frame(1514, 2)), true);
  assert.equal(device.receive(frame(1515)), false);
  assert.equal(device.receive(frame(13)), false);
  assert.equal(context.line, false);
  const first = driver.add(0, [12, 1514]);
  const second = driver.add(0, [1526]);
  driver.kick(0);
  assert.deepEqual(
    driver.used(0).map(({ length }) => length),
    [72, 1526],
  );
  assert.deepEqual(driver.bytes(first.addresses[0] as number, 12), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0));
  assert.deepEqual(driver.bytes(first.addresses[1] as number, 60), frame(60, 1));
  assert.equal(driver.bytes(second.addresses[0] as number, 1526)[1525], 2);
  assert.equal(context.line, true);
});

test('net: waiting frames are bounded, and lost without a driver', () => {
  const { device, driver } = setUp();
  for (let i = 0; i < INBOX_FRAMES; i++) assert.equal(device.receive(frame(60)), true);
  assert.equal(device.receive(frame(60)), false);
  device.reset();
  assert.equal(device.receive(frame(60)), false);
  driver.start();
  assert.deepEqual(device.save().inbox, []);
});

test('net: a receive buffer that is too small breaks the device', () => {
  const { device, driver } = setUp();
  driver.add(0, [40]);
  device.receive(frame(60));
  assert.equal(driver.status, 0x4f);
});

test('net: pulling the cable', () => {
  const { device, driver, sent, transmit } = setUp();
  device.receive(frame(60));
  device.setLink(false);
  assert.equal(device.linkUp, false);
  assert.equal(driver.acknowledge(), 2);
  assert.equal(device.read(0x106, 2), 0);
  assert.equal(device.receive(frame(60)), false);
  transmit(frame(72));
  assert.equal(sent.length, 0);
  device.setLink(true);
  transmit(frame(72));
  assert.equal(sent.length, 1);
});

test('net: save and restore continue alike; damaged records are refused', () => {
  const one = setUp();
  one.device.receive(frame(60, 7));
  const other = setUp();
  other.context.memory.bytes.set(one.context.memory.bytes);
  transplant(one.device, other.device);
  const { addresses } = other.driver.add(0, [1526]);
  other.driver.kick(0);
  assert.deepEqual(other.driver.bytes((addresses[0] as number) + 12, 60), frame(60, 7));
  assertStrict(one.device);
  assert.throws(() => one.device.restore({ ...one.device.save(), inbox: [frame(13)] }), /net\.inbox\[0\]/);
});
