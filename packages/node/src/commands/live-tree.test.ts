/** What a search shows of itself while it goes on. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ExploreProgress, explore, Machine } from '../index.ts';
import { endlessProgram } from '../testing.ts';
import { LiveTree } from './live-tree.ts';

/** A terminal, as far as pictures that are drawn in place need one. */
class Screen {
  readonly isTTY = true;
  readonly columns = 40;
  readonly rows = 10;
  readonly lines: string[] = ['before'];
  private row = 1;

  write(text: string): void {
    for (const [part] of text.matchAll(/\x1b\[[\d;]*[A-Za-z]|\n|\r|[^\x1b\n\r]+/g)) {
      if (part === '\n') this.row++;
      else if (part.endsWith('A') && part.startsWith('\x1b')) this.row -= Number(part.slice(2, -1));
      else if (part === '\x1b[J') this.lines.length = this.row;
      else if (!part.startsWith('\x1b') && part !== '\r') this.lines[this.row] = (this.lines[this.row] ?? '') + part;
      assert.ok(this.row >= 1 && this.row < this.rows, 'within its own lines');
    }
  }
}

/** A small search, which says how it gets on. */
async function search(onProgress: (progress: ExploreProgress<number, number>) => void): Promise<void> {
  await using machine = await Machine.create({ bare: endlessProgram('quiet'), memory: '32M', seed: 3n });
  const moves = Array.from({ length: 12 }, (_, i) => 10 + i);
  await using _ = await explore<number, number>(machine, {
    moves: () => moves,
    move: async (clone, steps) => (await clone.step(BigInt(steps))).step,
    score: ({ result = 0 }) => result,
    budget: { depth: 1 },
    onProgress,
  });
}

test('a picture is drawn in place, stays within the terminal, and goes away', async () => {
  const screen = new Screen();
  let now = 0;
  const live = new LiveTree<number, number>(screen, () => now);
  const pictures: string[][] = [];
  await search((progress) => {
    live.update(progress);
    pictures.push(screen.lines.slice(1));
    now += 100;
  });
  assert.ok(pictures.some((lines) => lines.some((line) => line.includes('running'))));
  assert.match(pictures.at(-1)!.at(-1)!, /^13 nodes.*best 21 at 11/);
  for (const line of pictures.flat()) assert.ok(line.length < screen.columns, line);
  live[Symbol.dispose]();
  assert.deepEqual(screen.lines, ['before']);
});

test('no faster than one can look, and the last is shown all the same', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const screen = new Screen();
  let writes = 0;
  const stream = {
    isTTY: true,
    write: (text: string) => {
      writes++;
      screen.write(text);
    },
    columns: 40,
    rows: 10,
  };
  let now = 0;
  const live = new LiveTree<number, number>(stream, () => now);
  await search(live.update);
  assert.equal(writes, 1);
  now += 100;
  t.mock.timers.tick(100);
  assert.equal(writes, 2);
  assert.match(screen.lines.at(-1)!, /^13 nodes/);
  live[Symbol.dispose]();
});

test('without a terminal there is a line when something better has been found', async () => {
  let text = '';
  let now = 0;
  const live = new LiveTree<number, number>({ write: (part) => (text += part) }, () => (now += 2000));
  await search(live.update);
  live[Symbol.dispose]();
  assert.doesNotMatch(text, /\x1b/);
  assert.match(text, /^1 nodes[^\n]*at root[^\n]*\n13 nodes, [^\n]*best 21 at 11, [^\n]*\n$/);
});
