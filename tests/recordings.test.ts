/**
 * Recordings of other builds and hosts: two that are committed, which every build from now on replays to the same states, and new ones that
 * are replayed on other threads and by other versions of Node.
 *
 * BLESS=1 makes the committed ones anew: a build that cannot read the old ones, or finds other states in them, says so in the changelog.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Machine, Pool, Replay } from '../packages/node/src/index.ts';
import { askingProgram, echoProgram, MAIN } from '../packages/node/src/testing.ts';
import { compile, compilerMissing } from './lib/compile.ts';

const golden = fileURLToPath(new URL('recordings/', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'braid-recordings-'));
after(() => rmSync(folder, { recursive: true }));

interface Expected {
  readonly steps: string;
  readonly keyframes: number;
  readonly events: number;
  readonly hash: string;
}

/** What is recorded, and how it is made. */
const RECORDINGS: Readonly<Record<string, { needs: string | false; make: (path: string) => Promise<void> }>> = {
  console: {
    needs: false,
    make: async (path) => {
      await using machine = await Machine.create({ bare: askingProgram({ work: 30_000 }), memory: '32M', seed: 6n });
      await using recording = await machine.record(path, { title: 'lines that are typed', keyframeMs: 1 });
      for (const line of ['one\n', 'two lines\nat once\n', 'q\n']) {
        await machine.type(line);
        await machine.step(1_100_000n).catch(() => {}); // it waits for more, or is over
        if (line !== 'q\n') await recording.mark(line.split('\n')[0]!);
      }
    },
  },
  disk: {
    needs: compilerMissing,
    make: async (path) => {
      const image = join(folder, 'image');
      writeFileSync(image, new Uint8Array(Uint32Array.from({ length: 640 * 128 }, (_, n) => n).buffer));
      const disks = [{ path: image }];
      await using machine = await Machine.create({ bare: compile('disk.c'), memory: '32M', harts: 2, seed: 7n, disks });
      await using _ = await machine.record(path, { title: 'a disk that is read and written', keyframeMs: 1 });
      assert.deepEqual(await machine.wait(), { kind: 'poweroff', code: 0 });
    },
  },
};

/** Replays all of a recording, and some of it from each of its keyframes. */
async function statesOf(path: string, pool: Pool): Promise<Expected> {
  await using replay = await Replay.open(path, { pool });
  const { stretches, keyframes } = replay.recording;
  assert.equal(replay.complete, true);
  assert.deepEqual(await replay.run(), { kind: 'end' });
  assert.equal(replay.verified, keyframes.length - 1);
  const hash = await replay.stateHash();
  for (const { at } of keyframes.toReversed()) {
    await replay.seek({ at });
    assert.deepEqual(await replay.run(), { kind: 'end' });
    assert.equal(await replay.stateHash(), hash);
  }
  return { steps: `${replay.end.at}`, keyframes: keyframes.length, events: stretches[0]!.log.length, hash };
}

describe('recordings that are committed are replayed as they were', () => {
  for (const [name, { needs, make }] of Object.entries(RECORDINGS)) {
    const path = join(golden, `${name}.rec`);
    test(name, async (t) => {
      await using pool = new Pool({ threads: 1 });
      if (process.env.BLESS) {
        if (needs) return t.skip(needs);
        rmSync(path, { force: true });
        await make(path);
        writeFileSync(join(golden, `${name}.json`), `${JSON.stringify(await statesOf(path, pool), undefined, 2)}\n`);
      }
      const expected: Expected = JSON.parse(readFileSync(join(golden, `${name}.json`), 'utf8'));
      assert.deepEqual(await statesOf(path, pool), expected);
      assert.ok(statSync(path).size < 40_000, 'it is to be small');
    });
  }

  test('on one thread as on two, side by side', async () => {
    await using one = new Pool({ threads: 1 });
    await using two = new Pool({ threads: 2 });
    two.warmUp();
    for (const name of Object.keys(RECORDINGS)) {
      const path = join(golden, `${name}.rec`);
      const [first, ...others] = await Promise.all([one, two, two].map((pool) => statesOf(path, pool)));
      for (const other of others) assert.deepEqual(other, first);
    }
    for (const { view } of [one, two]) assert.equal(view.used, 0);
  });
});

/** Another version of Node that runs Braid, on the path; its version, or why there is none. */
function otherNode(): { readonly path: string; readonly version: string } | string {
  for (const place of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(place, 'node');
    if (!existsSync(path)) continue;
    const version = spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout?.trim() ?? '';
    if (version !== process.version && Number(/^v(\d+)\./.exec(version)?.[1] ?? 0) >= 24) return { path, version };
  }
  return `no other Node of version 24 or newer is on the path`;
}

const other = otherNode();

test('one version of Node replays what another has recorded', {
  skip: typeof other === 'string' && other,
}, async (t) => {
  assert.ok(typeof other === 'object');
  const program = join(folder, 'echo');
  writeFileSync(program, echoProgram());
  const braid = (node: string, args: readonly string[], input = '') => {
    const { status, stdout, stderr } = spawnSync(node, [MAIN, ...args], { input, encoding: 'utf8', timeout: 60_000 });
    assert.equal(status, 0, stderr);
    return stdout;
  };
  for (const [recorder, replayer] of [
    [process.execPath, other.path],
    [other.path, process.execPath],
  ] as const) {
    await t.test(`recorded by ${recorder === process.execPath ? process.version : other.version}`, () => {
      const path = join(folder, `${recorder === other.path}.rec`);
      braid(recorder, ['run', '--bare', program, '--memory', '32M', '--record', path], 'HAL, and then q');
      const replayed = JSON.parse(braid(replayer, ['replay', path, '--json']).trim().split('\n').at(-1)!);
      assert.equal(replayed.diverged, false);
      const again = JSON.parse(braid(recorder, ['replay', path, '--json']).trim().split('\n').at(-1)!);
      assert.deepEqual({ ...replayed, ...SPEED }, { ...again, ...SPEED });
    });
  }
});
/** What differs each time. */
const SPEED = { hostSeconds: 0, stepsPerSecond: 0 };
