import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Competitor, compareKernel } from './kernels.ts';

const KERNEL = { program: 'program', name: 'kernel', repetitions: 5 };

const competitor = (wallSeconds: number, ...values: string[]): Competitor => ({
  run: () => ({ wallSeconds, cpuSeconds: wallSeconds / 2, value: values.length > 1 ? values.shift()! : values[0]! }),
});

test('competitors that compute the same are compared by their seconds', async () => {
  const competitors = { braid: competitor(1, 'a'), qemu: competitor(2, 'a'), native: undefined };
  const { results, samples } = await compareKernel(KERNEL, competitors, 3);
  assert.deepEqual(Object.keys(results), ['braid', 'qemu']);
  assert.deepEqual([results.braid.median, results.qemu!.median], [1, 2]);
  assert.deepEqual(samples.qemu, Array(3).fill({ wallSeconds: 2, cpuSeconds: 1, value: 'a' }));
});

test('values that differ between competitors, or between runs of one, are a failure', async () => {
  const other = { braid: competitor(1, 'a'), qemu: competitor(2, 'b') };
  await assert.rejects(compareKernel(KERNEL, other, 3), /kernel: results differ: braid a; qemu b/);
  await assert.rejects(compareKernel(KERNEL, { braid: competitor(1, 'a', 'b') }, 3), /differ: braid a, b/);
});
