// One process of the benchmark `hostile`: runs a program, and prints as JSON what it has cost.
//
//     hostile-guest.ts NAME all|none [--quick]     all or nothing of its console is read

import { setTimeout as sleep } from 'node:timers/promises';
import { buildElf } from '../../packages/core/src/boot/testing.ts';
import { hostilePrograms } from '../../packages/core/src/testing/hostile-programs.ts';
import { Machine } from '../../packages/node/src/index.ts';

const [name, reader] = process.argv.slice(2);
const PAUSES = process.argv.includes('--quick') ? 10 : 30;
const BETWEEN_MS = 30;

const SPIN = Uint8Array.of(0x6f, 0, 0, 0);
const QUIET = [
  { name: 'quiet', image: SPIN },
  { name: 'quiet with a disk', image: SPIN, disk: true },
];
const program = [...QUIET, ...hostilePrograms()].find((one) => one.name === name);
if (!program) throw new Error(`There is no program "${name}".`);
const { image, sbi = false, disk = false, symbols = {} } = { disk: false, sbi: false, symbols: {}, ...program };
const elf = buildElf({ segments: [{ address: 0x8000_0000n, data: image }], symbols });
const machine = await Machine.create({
  ...(sbi ? { kernel: image, flat: true } : { bare: elf }),
  ...(disk ? { disks: [new Uint8Array(32 * 2 ** 20)] } : {}),
  memory: '64M',
  seed: 1,
});
machine.onConsole(() => (reader === 'all' ? undefined : new Promise(() => {})));
await machine.run();
// Long enough that its code is translated, and that a run is as long as it gets.
await sleep(300);
const pauses: number[] = [];
for (let n = 0; n < PAUSES; n++) {
  await sleep(BETWEEN_MS);
  const from = performance.now();
  await machine.pause();
  pauses.push(performance.now() - from);
  await machine.run();
}
await sleep(BETWEEN_MS);
const from = performance.now();
await machine.dispose();
const dispose = performance.now() - from;
process.stdout.write(JSON.stringify({ resident: process.resourceUsage().maxRSS / 1024, pauses, dispose }));
