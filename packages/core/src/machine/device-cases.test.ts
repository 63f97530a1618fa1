import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runBraid } from '../testing/bare.ts';
import { DeviceAccesses, recordText } from '../testing/device-access.ts';
import { DEVICE_CASES } from '../testing/device-cases.ts';

for (const { name, run, expected } of DEVICE_CASES) {
  test(`devices: ${name}`, () => {
    const program = new DeviceAccesses();
    run(program);
    using ran = runBraid(program.image(), { harts: 2 });
    assert.deepEqual(program.records(ran).map(recordText), expected);
  });
}
