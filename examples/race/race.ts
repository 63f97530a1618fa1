/** A machine with four harts in which `notices` is run: each time in a clone of the same moment, with random numbers of its own. */

import { readFileSync } from 'node:fs';
import { Machine, type Pool } from '@braid/node';

const PROGRAM = new URL('prebuilt/notices', import.meta.url);

/** A run of the program. */
export interface Attempt {
  readonly seed: number;
  readonly failed: boolean;
  /** What it said. */
  readonly said: string;
}

/** A machine that is up and has the program. */
export async function prepare(options: { readonly pool?: Pool } = {}): Promise<Machine> {
  const machine = await Machine.create({ harts: 4, seed: 7n, hints: { mark: 8 }, ...options });
  await machine.boot();
  await machine.writeFile('/root/notices', readFileSync(PROGRAM));
  await machine.exec(['chmod', '+x', '/root/notices']);
  return machine;
}

/**
 * Runs the program in a clone, recorded to a file if there is one. What is on its board comes from the clone's random device, and so from
 * the seed; nothing else differs.
 */
export async function attempt(machine: Machine, seed: number, file?: string): Promise<Attempt> {
  const [made] = await machine.fork(1, { seed });
  if (!(made instanceof Machine)) throw made;
  await using clone = made;
  const recording = file === undefined ? undefined : await clone.record(file, { title: `notices, seed ${seed}` });
  const { exitCode, stdout } = await clone.exec(['sh', '-c', './notices </dev/hwrng'], { cwd: '/root' });
  await recording?.stop();
  return { seed, failed: exitCode !== 0, said: stdout.trimEnd() };
}

/** Runs it with one seed after the other, recorded, until it fails: the file has that run then. */
export async function search(
  file: string,
  seeds: number,
  tell: (attempt: Attempt) => void,
): Promise<Attempt | undefined> {
  await using machine = await prepare();
  for (let seed = 1; seed <= seeds; seed++) {
    const run = await attempt(machine, seed, file);
    tell(run);
    if (run.failed) return run;
  }
  return undefined;
}
