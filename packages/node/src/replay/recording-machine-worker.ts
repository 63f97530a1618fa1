/** A process that is there to be killed: boots the default guest, records it to a file, and has its shell work until then. */

import { writeSync } from 'node:fs';
import { Machine } from '../machine.ts';

const [path, script] = process.argv.slice(2) as [string, string];
const machine = await Machine.create({ memory: '96M', harts: 2, seed: 21n });
await machine.boot();
await machine.record(path, { keyframeMs: 100 });
writeSync(1, 'it is recorded\n');
await machine.exec(['sh', '-c', script]);
