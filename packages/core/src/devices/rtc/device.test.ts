import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertStrict, read32, TestContext, transplant, write32 } from '../testing.ts';
import { Rtc } from './device.ts';

const EPOCH = 1_700_000_000_000_000_000n;

function setUp() {
  const context = new TestContext();
  const rtc = new Rtc(context, EPOCH);
  const time = () => {
    const low = BigInt(read32(rtc, 0));
    return (BigInt(read32(rtc, 4)) << 32n) | low;
  };
  const arm = (at: bigint) => {
    write32(rtc, 0x0c, Number(at >> 32n));
    write32(rtc, 0x08, Number(at & 0xffff_ffffn));
  };
  return { context, rtc, time, arm };
}

test('rtc: wall time is the start plus guest time; reading low latches high', () => {
  const { context, rtc, time } = setUp();
  context.time = 123n;
  assert.equal(time(), EPOCH + 123n);
  assert.equal(rtc.wallTime(), EPOCH + 123n);
  const high = read32(rtc, 4);
  context.time = 1n << 40n;
  assert.equal(read32(rtc, 4), high);
  read32(rtc, 0);
  assert.notEqual(read32(rtc, 4), high);
});

test('rtc: the guest sets the time by halves', () => {
  const { context, rtc, time } = setUp();
  context.time = 1000n;
  write32(rtc, 4, 0x1234);
  write32(rtc, 0, 0x5678);
  assert.equal(time(), 0x1234_0000_5678n);
  context.time = 1001n;
  assert.equal(time(), 0x1234_0000_5679n);
});

test('rtc: the alarm fires at its time, once, and the interrupt is cleared by hand', () => {
  const { context, rtc, arm } = setUp();
  write32(rtc, 0x10, 1);
  arm(EPOCH + 5000n);
  assert.equal(read32(rtc, 0x18), 1);
  assert.equal(rtc.deadline(), 5000n);
  context.time = 5000n;
  rtc.advance(5000n);
  assert.equal(context.line, true);
  assert.equal(read32(rtc, 0x18), 0);
  assert.equal(rtc.deadline(), undefined);
  write32(rtc, 0x1c, 1);
  assert.equal(context.line, false);
});

test('rtc: an alarm in the past fires at once, a cleared or masked one does not interrupt', () => {
  const { context, rtc, arm } = setUp();
  arm(EPOCH - 1n);
  assert.equal(context.line, false);
  write32(rtc, 0x10, 1);
  assert.equal(context.line, true);
  write32(rtc, 0x1c, 0);
  arm(EPOCH + 10n);
  write32(rtc, 0x14, 1);
  context.time = 20n;
  rtc.advance(20n);
  assert.equal(context.line, false);
  arm((1n << 64n) - 1n);
  assert.equal(rtc.deadline(), undefined);
});

test('rtc: setting the time moves the alarm', () => {
  const { context, rtc, arm } = setUp();
  write32(rtc, 0x10, 1);
  arm(EPOCH + (1n << 40n));
  write32(rtc, 4, Number((EPOCH >> 32n) + 1000n));
  assert.equal(context.line, true);
});

test('rtc: save and restore at any moment; reset keeps the time', () => {
  const { context, rtc, arm } = setUp();
  write32(rtc, 0x10, 1);
  write32(rtc, 4, 7);
  arm(1n);
  const other = setUp();
  transplant(rtc, other.rtc);
  assert.equal(other.context.line, true);
  rtc.reset();
  assert.equal(context.line, false);
  assert.equal(rtc.wallTime() >> 32n, 7n);
});

test('rtc: a damaged record is refused', () => {
  assertStrict(setUp().rtc);
});
