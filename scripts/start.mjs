// `npm start`: a Linux shell on a terminal; anywhere else a short scripted tour that ends with exit code 0.
import { fail, MAIN, runProgram } from '../packages/node/bin/runtime.mjs';
import { ensureSetup } from './setup.mjs';

const interactive = process.stdin.isTTY && process.stdout.isTTY;
const args = process.argv.slice(2);

try {
  ensureSetup();
} catch (error) {
  fail(error);
  process.exit();
}
await runProgram(MAIN, [interactive ? 'run' : 'tour', ...args]);
