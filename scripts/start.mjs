// `npm start`: a state branched into clones, the best of them adopted, and on a terminal a shell in it.
import { fail, MAIN, runProgram } from '../packages/node/bin/runtime.mjs';
import { ensureSetup } from './setup.mjs';

const args = process.argv.slice(2);

try {
  ensureSetup();
} catch (error) {
  fail(error);
  process.exit();
}
await runProgram(MAIN, ['tour', ...args]);
