// `npm run bench -- hostile`: what guests cost their host that flood it with all that they have.
//
// A row each for the programs of packages/core/src/testing/hostile-programs.ts: every port, queue, device register, firmware call and
// hint. Each runs in a process of its own, in virtual time, while somebody reads its console, and once more while nobody does; what is
// measured is the process's largest resident memory above that of one with a machine that makes steps only, and how long `pause()`,
// many times, and `dispose()` take. The median is over repetitions; the largest of a row's `spread` is the worst.
//
// Arguments are parts of names: then only these run.

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { hostilePrograms } from '../packages/core/src/testing/hostile-programs.ts';
import { quick, Report, summarize } from './harness.ts';

const GUEST = fileURLToPath(new URL('./lib/hostile-guest.ts', import.meta.url));
const REPS = quick ? 1 : 3;
const LIMIT_MIB = 64;
const LIMIT_MS = 100;

interface Measured {
  /** MiB. */
  readonly resident: number;
  /** Milliseconds, of each call. */
  readonly pauses: readonly number[];
  readonly dispose: number;
}

async function measure(name: string, reader: 'all' | 'none'): Promise<Measured> {
  const args = ['--no-warnings', GUEST, name, reader, ...(quick ? ['--quick'] : [])];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 120_000 });
  return JSON.parse(stdout);
}

const named = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
using report = new Report(
  'hostile',
  'Guests that flood their host: memory above that of a quiet machine, and milliseconds until calls get through. The largest is the worst.',
);
const quiet = (await measure('quiet', 'all')).resident;
const quietWithDisk = (await measure('quiet with a disk', 'all')).resident;
for (const { name, disk } of hostilePrograms()) {
  if (named.length > 0 && !named.some((part) => name.includes(part))) continue;
  const memory: number[] = [];
  const unread: number[] = [];
  const pauses: number[] = [];
  const disposals: number[] = [];
  for (let n = 0; n < REPS; n++) {
    const read = await measure(name, 'all');
    const alone = await measure(name, 'none');
    const base = disk ? quietWithDisk : quiet;
    memory.push(read.resident - base);
    unread.push(alone.resident - base);
    pauses.push(...read.pauses, ...alone.pauses);
    disposals.push(read.dispose, alone.dispose);
  }
  const add = (what: string, unit: string, samples: number[], must: number) => {
    const braid = summarize(samples);
    report.add({ name: `${name}: ${what}`, unit, better: 'lower', results: { braid }, group: what, must });
  };
  add('memory', 'MiB', memory, LIMIT_MIB);
  add('memory, nobody reads', 'MiB', unread, LIMIT_MIB);
  add('pause', 'ms', pauses, LIMIT_MS);
  add('dispose', 'ms', disposals, LIMIT_MS);
}
report.print();
