// Preloaded by `node --import` (see recorded-tests.mjs): every machine that a test makes is recorded from its power-on, and when it is
// disposed of its recording is replayed to the end. A replay that differs from what was recorded, or a recording that cannot be replayed,
// fails the test's process.
//
// Clones are not recorded. What the recorded machine adopts of them, and where it is reset to, is in its recording.

import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread } from 'node:worker_threads';

/** Often, so that most machines have some: what is verified is the state at each. */
const KEYFRAME_MS = 60;

/** Of this process, for whoever started it: a line of JSON in the file that BRAID_RECORD_EVERYTHING names. */
const counts = { machines: 0, replayed: 0, keyframes: 0, steps: 0, refused: 0, failed: 0, left: 0 };

/** What makes a machine run. A restored one is recorded from then on: until it runs, what is due where it stands is still to be done. */
const RUNNING = ['boot', 'run', 'step', 'runUntil', 'runTo', 'wait', 'exec', 'readFile', 'writeFile', 'shutdown'];

async function install() {
  const { Machine, Pool, Replay } = await import('../packages/node/src/index.ts');
  const folder = mkdtempSync(join(tmpdir(), 'braid-everything-'));
  /** Of the machines that are there; `first`: it is ended before its machine is, and not with it. */
  const recorded = new Map();
  let replays;

  const begin = async (machine) => {
    try {
      const path = join(folder, `${counts.machines + counts.refused}`);
      const recording = await machine.record(path, { keyframeMs: KEYFRAME_MS });
      recorded.set(machine, { recording, first: counts.machines++ % 2 === 0 });
    } catch {
      // A pool without room for it, or a machine that is over: the test is about that.
      counts.refused++;
    }
  };
  const { create, restore } = Machine;
  const { dispose } = Machine.prototype;
  const disposePool = Pool.prototype.dispose;
  Machine.create = async (...args) => {
    const machine = await create.apply(Machine, args);
    await begin(machine);
    return machine;
  };
  Machine.restore = async (...args) => {
    const machine = await restore.apply(Machine, args);
    let begun;
    for (const name of RUNNING) {
      machine[name] = async (...args) => {
        await (begun ??= begin(machine));
        return Machine.prototype[name].apply(machine, args);
      };
    }
    return machine;
  };
  Machine.prototype.dispose = async function () {
    const check = await ended(this);
    await dispose.call(this);
    await check();
  };
  Pool.prototype.dispose = async function () {
    const checks = [];
    for (const machine of [...recorded.keys()]) if (machine.pool === this) checks.push(await ended(machine));
    await disposePool.call(this);
    for (const check of checks) await check();
  };

  /** A machine is about to go: what is to be done when it has gone. */
  const ended = async (machine) => {
    const { recording, first } = recorded.get(machine) ?? {};
    recorded.delete(machine);
    if (!recording) return () => {};
    let hash;
    if (first) {
      try {
        await machine.pause();
        await recording.stop();
        hash = await machine.stateHash();
      } catch {
        // Its thread is gone, or its parent has adopted it.
      }
    }
    return async () => {
      try {
        await repeat(recording, hash);
      } catch (error) {
        counts.failed++;
        process.exitCode = 1;
        process.stderr.write(`A recording is not repeated: ${error.stack}\n`);
        throw error;
      } finally {
        rmSync(recording.path, { force: true });
      }
    };
  };

  const repeat = async (recording, hash) => {
    const whole = await recording.ended.then(
      () => true,
      () => false,
    );
    replays ??= new Pool({ threads: 1 });
    const replay = await Replay.open(recording.path, { pool: replays });
    try {
      const { kind } = await replay.run();
      if (kind !== 'end' || replay.at !== replay.end.at) throw new Error(`it stopped (${kind}) at step ${replay.at}`);
      if (whole !== replay.complete) throw new Error(`it is ${replay.complete ? '' : 'not '}complete`);
      if (whole && (await replay.stateHash()) !== replay.end.hash) throw new Error('its end has another hash');
      const again = whole && hash !== undefined && replay.info.disks.length === 0 ? await left(replay) : hash;
      if (again !== hash) throw new Error(`the machine had hash ${hash}, one that leaves the replay has ${again}`);
      counts.replayed++;
      counts.keyframes += replay.verified;
      counts.steps += Number(replay.at);
    } finally {
      await replay.dispose();
    }
  };

  /** The hash of a machine that leaves the replay where it stands: as any machine's, disks included. */
  const left = async (replay) => {
    const machine = await replay.divert();
    try {
      return await machine.stateHash();
    } finally {
      await dispose.call(machine);
    }
  };

  process.on('exit', () => {
    counts.left = recorded.size;
    rmSync(folder, { recursive: true, force: true });
    if (counts.machines > 0 || counts.refused > 0)
      appendFileSync(process.env.BRAID_RECORD_EVERYTHING, `${JSON.stringify(counts)}\n`);
  });
}

// Machines are controlled from the main threads of the processes that the test runner starts, not from its own.
if (isMainThread && process.env.NODE_TEST_CONTEXT !== undefined) await install();
