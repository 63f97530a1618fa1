// `npm run bench -- NAME [--json] [--quick] [...]`: runs bench/NAME.ts. Without a name it lists them.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fail, runProgram } from '../packages/node/bin/runtime.mjs';
import { ensureSetup, ROOT } from './setup.mjs';

const names = readdirSync(join(ROOT, 'bench'))
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts') && file !== 'harness.ts')
  .map((file) => file.slice(0, -'.ts'.length))
  .sort();
const [name, ...args] = process.argv.slice(2);

try {
  if (!names.includes(name)) {
    throw new Error(
      `${name ? `There is no benchmark "${name}".` : 'Which benchmark?'}\n` +
        `npm run bench -- NAME [--json] [--quick], where NAME is: ${names.join(', ') || '(none yet)'}`,
    );
  }
  ensureSetup();
} catch (error) {
  fail(error);
  process.exit();
}
await runProgram(join(ROOT, 'bench', `${name}.ts`), args);
