// Which tests run once more with every machine recorded and replayed (record-everything.mjs), and which of those that make machines do not.

import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Files by what of them is left out: a pattern of tests' names, and why. */
export const RECORDED = {
  'packages/node/src/machine.test.ts': {},
  'packages/node/src/guest-edges.test.ts': {},
  'packages/node/src/pieces.test.ts': {},
  'packages/node/src/branch/completion.test.ts': {},
  'packages/node/src/branch/converge.test.ts': { skip: 'whose thread dies', why: 'counts frames' },
  'packages/node/src/branch/decide.test.ts': {},
  'packages/node/src/branch/family.test.ts': {},
  'packages/node/src/branch/speculate.test.ts': { skip: 'the clone that was right', why: 'counts frames' },
  'packages/node/src/disk/users.test.ts': {},
  'packages/node/src/gdb/gdb.test.ts': {},
  'packages/node/src/gdb/listener.test.ts': {},
  'packages/node/src/pool/pool.test.ts': {
    skip: 'a thread that does not answer',
    why: 'asks that thread to end the recording',
  },
};

/** Files, and folders of files, that make machines, and why they are not among them. */
export const NOT_RECORDED = {
  'packages/node/src/arguments.test.ts': 'calls everything with bad values, recording too',
  'packages/node/src/boot-options.test.ts': 'its programs say two letters each',
  'packages/node/src/boot-peers.test.ts': 'its machines only start a kernel',
  'packages/node/src/exec-limits.test.ts': 'compares runs by their hashes itself; half a minute',
  'packages/node/src/forks.test.ts': 'records its machines itself',
  'packages/node/src/listeners.test.ts': 'is about listeners, those of recordings too',
  'packages/node/src/disk/stamp.test.ts': 'is about what save notes; its machines hardly run',
  'tests/clean-disks.test.ts': 'is about the end of the guest; its machines run as those of machine.test.ts',
  'packages/node/src/branch/branches.test.ts': 'takes a minute; adoption and hints are in others',
  'packages/node/src/branch/explore.test.ts': 'counts frames; a minute',
  'packages/node/src/commands/equal-runs.test.ts': 'compares recorded machines with others itself',
  'packages/node/src/commands/live-tree.test.ts': 'is about what a page shows',
  'packages/node/src/gdb/replay.test.ts': 'records its machines itself',
  'packages/node/src/gdb/program-step.test.ts': 'records its machines itself',
  'packages/node/src/runner/searched-text.test.ts': 'records its machines itself',
  'packages/node/src/replay/': 'record their machines themselves',
  'tests/recordings.test.ts': 'records its machines itself',
  'tests/examples.test.ts': 'its machines belong to programs that it starts',
};

const PRELOAD = new URL('./record-everything.mjs', import.meta.url).href;

/** Runs the tests with `run(files, flags, settings)`. What was recorded and replayed, all together; undefined when nothing ran. */
export async function runRecorded(files, run) {
  const chosen = files.filter((file) => file in RECORDED);
  if (chosen.length === 0) return undefined;
  const folder = mkdtempSync(join(tmpdir(), 'braid-recorded-'));
  const report = join(folder, 'report');
  appendFileSync(report, '');
  try {
    const skipped = chosen.flatMap((file) => RECORDED[file].skip ?? []);
    const flags = ['--import', PRELOAD, ...skipped.map((pattern) => `--test-skip-pattern=${pattern}`)];
    await run(chosen, flags, { BRAID_RECORD_EVERYTHING: report });
    const all = {};
    for (const line of readFileSync(report, 'utf8').split('\n').filter(Boolean)) {
      for (const [name, count] of Object.entries(JSON.parse(line))) all[name] = (all[name] ?? 0) + count;
    }
    return all;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
