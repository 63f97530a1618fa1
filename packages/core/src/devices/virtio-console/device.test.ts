import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertStrict, read32, TestContext, TestDriver, TestMemory, transplant } from '../testing.ts';
import { AGENT, CONSOLE, VirtioConsole } from './device.ts';
import { CONTROLS_MAX, INBOX_SIZE } from './state.ts';

const VERSION_1 = 1n << 32n;
const SIZES = [64, 64, 32, 32, 64, 64];
const CONTROL_IN = 2;
const CONTROL_OUT = 3;

const text = (string: string) => new TextEncoder().encode(string);

function setUp(features?: bigint) {
  const context = new TestContext(new TestMemory(0x200000));
  const output = ['', ''];
  const opened: string[] = [];
  const device = new VirtioConsole(context, {
    output: (port, bytes) => {
      output[port] += new TextDecoder().decode(bytes);
    },
    opened: (port, open) => opened.push(`${port} ${open}`),
  });
  const driver = new TestDriver(device, context.memory, SIZES);
  driver.start(features);
  /** Messages of the device, with what follows their eight bytes. */
  const controls = () =>
    driver.used(CONTROL_IN).map(({ head, length }) => {
      const bytes = driver.bytes(buffers[head] as number, length);
      const view = new DataView(bytes.buffer);
      const tail = [...bytes.subarray(8)];
      return [view.getUint32(0, true), view.getUint16(4, true), view.getUint16(6, true), ...tail];
    });
  const buffers: number[] = [];
  const giveControlBuffers = (count: number, size = 64) => {
    for (let i = 0; i < count; i++) {
      const { head, addresses } = driver.add(CONTROL_IN, [size]);
      buffers[head] = addresses[0] as number;
    }
    driver.kick(CONTROL_IN);
  };
  const say = (port: number, event: number, value: number) => {
    const view = new DataView(new ArrayBuffer(8));
    view.setUint32(0, port, true);
    view.setUint16(4, event, true);
    view.setUint16(6, value, true);
    driver.add(CONTROL_OUT, [new Uint8Array(view.buffer)]);
    driver.kick(CONTROL_OUT);
  };
  return { context, device, driver, output, opened, controls, giveControlBuffers, say };
}

test('console: the control conversation of a multiport driver', () => {
  const { controls, giveControlBuffers, say, device, opened } = setUp();
  giveControlBuffers(20);
  say(0, 0, 1);
  assert.deepEqual(controls(), [
    [0, 1, 1],
    [1, 1, 1],
  ]);
  say(0, 3, 1);
  assert.deepEqual(controls(), [
    [0, 4, 1],
    [0, 5, 0, 80, 0, 24, 0],
    [0, 6, 1],
  ]);
  say(1, 3, 1);
  assert.deepEqual(controls(), [
    [1, 7, 1, ...text('org.qemu.guest_agent.0')],
    [1, 6, 1],
  ]);
  assert.equal(device.guestOpen(AGENT), false);
  say(1, 6, 1);
  assert.equal(device.guestOpen(AGENT), true);
  say(1, 6, 1);
  say(1, 6, 0);
  assert.deepEqual(opened, ['1 true', '1 false']);
  device.setOpen(AGENT, false);
  device.setOpen(AGENT, false);
  assert.deepEqual(controls(), [[1, 6, 0]]);
});

test('console: control messages wait for buffers, coalesce, and are bounded', () => {
  const { controls, giveControlBuffers, say, device } = setUp();
  say(0, 3, 1);
  device.resize(100, 40);
  device.resize(132, 50);
  giveControlBuffers(10);
  assert.deepEqual(controls(), [
    [0, 4, 1],
    [0, 5, 0, 132, 0, 50, 0],
    [0, 6, 1],
  ]);
  device.resize(10, 5);
  assert.deepEqual(controls(), [[0, 5, 0, 10, 0, 5, 0]]);
  giveControlBuffers(0);
  for (let i = 0; i < 1000; i++) say(0, 0, 1);
  assert.equal(device.save().controls.length <= CONTROLS_MAX, true);
});

test('console: nonsense on the control queue is ignored, a control buffer too small is not', () => {
  const { driver, say, device, giveControlBuffers } = setUp();
  driver.add(CONTROL_OUT, [Uint8Array.of(1, 2, 3)]);
  driver.kick(CONTROL_OUT);
  say(2, 6, 1);
  say(0xffff_ffff, 3, 1);
  say(0, 99, 1);
  say(0, 0, 0);
  assert.equal(driver.used(CONTROL_OUT).length, 5);
  assert.equal(device.save().controls.length, 0);
  assert.equal(driver.status, 0x0f);
  giveControlBuffers(1, 10);
  say(1, 3, 1);
  assert.equal(driver.status, 0x4f);
});

test('console: output of both ports', () => {
  const { driver, output, device } = setUp();
  driver.add(1, [text('log'), text('in: ')]);
  driver.kick(1);
  driver.add(5, [text('{"return": {}}')]);
  driver.kick(5);
  assert.deepEqual(output, ['login: ', '{"return": {}}']);
  device.setOpen(AGENT, false);
  driver.add(5, [text('lost')]);
  driver.kick(5);
  assert.equal(output[AGENT], '{"return": {}}');
});

test('console: input waits for the guest to open the port and for buffers', () => {
  const { driver, device, say } = setUp();
  assert.equal(device.send(CONSOLE, text('early ')), 6);
  assert.equal(device.send(AGENT, text('early')), 0);
  const { addresses } = driver.add(0, [4, 4]);
  driver.kick(0);
  assert.deepEqual(driver.used(0), []);
  say(0, 6, 1);
  assert.deepEqual(driver.used(0), [{ head: 0, length: 6 }]);
  assert.deepEqual(driver.bytes(addresses[0] as number, 4), text('earl'));
  assert.deepEqual(driver.bytes(addresses[1] as number, 2), text('y '));
  say(1, 6, 1);
  assert.equal(device.send(AGENT, text('ping')), 4);
  say(1, 6, 0);
  say(1, 6, 1);
  driver.add(4, [16]);
  driver.kick(4);
  assert.deepEqual(driver.used(4), []);
  assert.equal(device.send(AGENT, text('pong')), 4);
  assert.equal(driver.used(4)[0]?.length, 4);
});

test('console: the inbox is bounded, and buffers make room', () => {
  const { driver, device, say } = setUp();
  say(0, 6, 1);
  driver.add(0, [100]);
  const flood = new Uint8Array(INBOX_SIZE + 500);
  assert.equal(device.send(CONSOLE, flood), INBOX_SIZE + 100);
  assert.equal(device.send(CONSOLE, flood), 0);
  driver.add(0, [50]);
  driver.kick(0);
  assert.equal(device.send(CONSOLE, flood), 50);
});

test('console: a driver without multiport has one port and reads the size from the configuration', () => {
  const { driver, device, output } = setUp(VERSION_1 | 1n);
  driver.add(0, [16]);
  driver.kick(0);
  device.send(CONSOLE, text('hi'));
  assert.equal(driver.used(0)[0]?.length, 2);
  driver.add(1, [text('yo')]);
  driver.kick(1);
  assert.equal(output[CONSOLE], 'yo');
  assert.equal(read32(device, 0x100), (24 << 16) | 80);
  assert.equal(read32(device, 0x104), 2);
  driver.acknowledge();
  device.resize(132, 43);
  assert.equal(driver.acknowledge(), 2);
  assert.equal(read32(device, 0x100), (43 << 16) | 132);
  assert.throws(() => device.resize(-1, 5), RangeError);
});

test('console: absurd chains break the device, not the host', () => {
  const { driver, context } = setUp();
  for (let i = 0; i < 40; i++)
    driver.describe(context.memory.base + 0x3000, i, context.memory.base, 0x200000, 1, i + 1);
  driver.describe(context.memory.base + 0x3000, 40, context.memory.base, 1, 0);
  driver.offer(1, 0);
  driver.kick(1);
  assert.equal(driver.status, 0x4f);
});

test('console: a driver reset closes ports and keeps what waits for the console; a machine reset drops that too', () => {
  const { driver, device, say, opened } = setUp();
  device.send(CONSOLE, text('typed ahead'));
  say(1, 3, 1);
  say(1, 6, 1);
  device.send(AGENT, text('half a request'));
  driver.start();
  assert.deepEqual(opened, ['1 true', '1 false']);
  const state = device.save();
  assert.deepEqual(
    state.ports.map(({ inbox }) => inbox.length),
    [11, 0],
  );
  assert.deepEqual(state.controls, []);
  device.reset();
  assert.equal(device.save().ports[0]?.inbox.length, 0);
});

test('console: save and restore continue alike; damaged records are refused', () => {
  const { device, say, context } = setUp();
  say(0, 0, 1);
  say(1, 6, 1);
  device.send(AGENT, text('waiting'));
  device.resize(1, 2);
  const other = setUp();
  other.context.memory.bytes.set(context.memory.bytes);
  transplant(device, other.device);
  assert.equal(other.device.guestOpen(AGENT), true);
  other.giveControlBuffers(4);
  assert.equal(other.driver.used(CONTROL_IN).length, 2);
  assertStrict(device);
  const state = device.save();
  const controls = (event: number) => ({ ...state, controls: [{ port: 0, event, value: 1 }] });
  for (const event of [0, 2, 3, 8]) assert.throws(() => device.restore(controls(event)), /controls\[0\]\.event/);
});
