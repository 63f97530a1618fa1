/**
 * Finds an input that crashes `settings`, a C program in the guest: `braid explore examples/crash/search.ts`.
 *
 * The program runs at the console and reads byte after byte, so the machine can be forked before each of them: no input is ever given
 * twice. What a byte leads to is scored by how many places of the parser have been reached, and states that the program cannot tell
 * apart count once. The beam keeps the best 24.
 */

import { readFileSync } from 'node:fs';
import type { ExploreScript } from '@braid/node';

const BYTES = ['a', '"', '=', ';', '\\', 'U'];
/** After each byte it says `3 places 143 in 1`; when it is over the shell shows its prompt. */
const ANSWER = /places .* in \d+\s|# /;

const search: ExploreScript = {
  async setup(machine) {
    await machine.writeFile('/root/settings', readFileSync(new URL('prebuilt/settings', import.meta.url)));
    await machine.exec(['chmod', '+x', '/root/settings']);
    await Promise.all([
      machine.type('stty -icanon -echo; echo rea\\dy; ./settings -v\n'),
      machine.runUntil({ pattern: 'ready' }),
    ]);
  },
  moves: ({ result }) => (isOver(result?.console) ? [] : BYTES.map((type) => ({ type, until: ANSWER }))),
  score: ({ result }) => Number(/(\d+) places/.exec(result?.console ?? '')?.[1] ?? 0),
  stop: ({ result }) => /Segmentation fault/.test(result?.console ?? ''),
  dedupe: ({ result }) => /\d+ places .*/.exec(result?.console ?? '')?.[0] ?? '',
  strategy: 'beam',
  width: 24,
  budget: { nodes: 3000 },
};

function isOver(console: string | undefined): boolean {
  return console !== undefined && !/places/.test(console);
}

export default search;
