/**
 * Runs `notices` with one seed after the other, recorded, until it fails; then finds in the recording, backwards in gdb, who wrote what
 * should not have been written: `npx node examples/race/find.ts [RECORDING]`.
 */

import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { search } from './race.ts';

const SEEDS = 500;
const braid = fileURLToPath(new URL('../../packages/node/src/main.ts', import.meta.url));
const root = fileURLToPath(new URL('../../', import.meta.url));

const file = resolve(process.argv[2] ?? 'race.rec');
const say = (line: string) => process.stdout.write(`${line}\n`);

const found = await search(file, SEEDS, ({ seed, said }) => say(`seed ${seed}: ${said}`));
if (!found) {
  say(`None of ${SEEDS} runs fails.`);
  process.exitCode = 1;
} else {
  say(`\nThat run is in ${file}: go back in it with gdb.`);
  const gdb = ['gdb', file, '--run', '--', '-batch', '-x', 'examples/race/back.gdb', 'examples/race/prebuilt/notices'];
  const { status } = spawnSync(process.execPath, [braid, ...gdb], { cwd: root, stdio: 'inherit' });
  process.exitCode = status ?? 1;
}
