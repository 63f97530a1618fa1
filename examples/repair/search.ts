/**
 * Tries the candidates for a repair of `wrap`, a C program in the guest, each in a clone of the machine at the same moment:
 * `braid explore examples/repair/search.ts`. The first that passes the tests of `wrap` wins, by the guest's steps; in its clone it has
 * taken the place of the broken program, so whoever adopts that clone has the repair.
 */

import { readdirSync, readFileSync } from 'node:fs';
import type { ExploreScript, Move } from '@braid/node';

const here = (path: string) => new URL(path, import.meta.url);
const candidates = readdirSync(here('prebuilt')).filter((name) => name !== 'wrap');

const search: ExploreScript = {
  async setup(machine) {
    await machine.exec(['mkdir', '-p', 'repair/cases', 'repair/candidates'], { cwd: '/root' });
    const copy = (from: string, to: string) => machine.writeFile(`/root/repair/${to}`, readFileSync(here(from)));
    await Promise.all([
      copy('test.sh', 'test.sh'),
      copy('prebuilt/wrap', 'wrap'),
      ...readdirSync(here('cases')).map((name) => copy(`cases/${name}`, `cases/${name}`)),
      ...candidates.map((name) => copy(`prebuilt/${name}`, `candidates/${name}`)),
    ]);
    await machine.exec(['sh', '-c', 'chmod +x wrap candidates/*'], { cwd: '/root/repair' });
  },
  moves: ({ node }) => (node.parent ? [] : candidates.map(attempt)),
  score: ({ result }) => result?.stdout.match(/^ok/gm)?.length ?? 0,
  stop: ({ result }) => result?.exitCode === 0,
};

function attempt(name: string): Move {
  return { name, argv: ['sh', '-c', 'cp candidates/$0 wrap && sh test.sh ./wrap', name], cwd: '/root/repair' };
}

export default search;
