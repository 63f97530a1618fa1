/** Runs `notices` with one seed after the other until it fails: `npx node examples/race/find.ts`. */

import { attempt, prepare } from './race.ts';

const SEEDS = 500;

await using machine = await prepare();
let found = false;
for (let seed = 1; seed <= SEEDS && !found; seed++) {
  const { failed, said } = await attempt(machine, seed);
  process.stdout.write(`seed ${seed}: ${said}\n`);
  found = failed;
}
process.exitCode = found ? 0 : 1;
