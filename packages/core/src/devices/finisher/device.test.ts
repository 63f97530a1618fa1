import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertStrict, read32, transplant, write32 } from '../testing.ts';
import { type Finish, Finisher } from './device.ts';

function setUp() {
  const ends: Finish[] = [];
  return { ends, finisher: new Finisher((finish) => ends.push(finish)) };
}

test('finisher: pass, fail with a code, reset', () => {
  const { ends, finisher } = setUp();
  write32(finisher, 0, 0x5555);
  write32(finisher, 0, 0x0007_3333);
  write32(finisher, 0, 0xffff_3333);
  finisher.write(0, 2, 0x7777);
  assert.deepEqual(ends, [
    { kind: 'poweroff', code: 0 },
    { kind: 'fail', code: 7 },
    { kind: 'fail', code: 65535 },
    { kind: 'reboot', code: 0 },
  ]);
});

test('finisher: everything else does nothing', () => {
  const { ends, finisher } = setUp();
  write32(finisher, 0, 0);
  write32(finisher, 4, 0x5555);
  finisher.write(0, 1, 0x55);
  assert.equal(read32(finisher, 0), 0);
  assert.deepEqual(ends, []);
});

test('finisher: its record', () => {
  const { finisher } = setUp();
  transplant(finisher, setUp().finisher);
  finisher.reset();
  assertStrict(finisher);
});
